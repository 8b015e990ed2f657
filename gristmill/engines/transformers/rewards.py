"""Rewards by a classification head, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError
from gristmill.engines.transformers.local import LocalEngine
from gristmill.engines.transformers.options import LocalModel


class TransformersReward(LocalModel, frozen=True, kw_only=True):
    """A reward model that Transformers runs in this process: with a head over the whole conversation, or one
    over its tokens, or two words at its step tags (a process reward model)."""

    head: Literal["sequence", "token", "words"] = "sequence"
    """``sequence``: the numbers of a sequence classification head; ``token``: those of a token
    classification head at each ``tag``; ``words``: the logits that a causal model gives to ``bad`` and
    ``good`` as the token after each ``tag``, in this order."""
    tag: str = ""
    """With ``token`` and ``words``: the step tag, which is one token of the model, such as ``<extra_0>``."""
    good: Annotated[str, Meta(min_length=1)] = "+"
    """``words``: the token that calls a step good."""
    bad: Annotated[str, Meta(min_length=1)] = "-"
    """``words``: the token that calls a step bad."""

    def __post_init__(self) -> None:
        if (self.head != "sequence") != bool(self.tag):
            raise RecipeError(
                "transformers-reward: 'tag' and 'head: token' or 'head: words' go together.",
                remedy="Give both, or neither for a reward of the whole answer.",
            )

    @property
    def identity(self) -> str:
        """As of other local models, with the tag."""
        own: str = LocalModel.identity.fget(self)  # type: ignore[attr-defined]
        words = f" {self.bad} {self.good}" if self.head == "words" else ""
        return f"{own} rewards" + (f" at {self.tag}" if self.tag else "") + words

    def open(self) -> TransformersRewardEngine:
        """The engine; the model is loaded with ``async with``."""
        self.check()
        return TransformersRewardEngine(self)


class TransformersRewardEngine(LocalEngine):
    """A reward model at work; see ``TransformersReward`` and ``Ability.REWARD``."""

    def __init__(self, options: TransformersReward) -> None:
        super().__init__(options)
        self._options = options
        self._tokens: list[int] = []
        self.abilities = frozenset({Ability.REWARD})

    def load(self, arguments: dict[str, Any]) -> Any:
        """The model with its head. ``EngineError`` for a tag or a word that is not one token."""
        import transformers

        options = self._options
        names = {"sequence": [], "token": ["tag"], "words": ["tag", "bad", "good"]}[options.head]
        self._tokens = [self._one_token(name, getattr(options, name)) for name in names]
        kinds = {"sequence": "SequenceClassification", "token": "TokenClassification", "words": "CausalLM"}
        kind = getattr(transformers, f"AutoModelFor{kinds[options.head]}")
        return kind.from_pretrained(options.model, **arguments)

    def _one_token(self, name: str, text: str) -> int:
        pieces = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(pieces) != 1:
            raise EngineError(
                f"{self._options.model}: the {name} {text!r} is {len(pieces)} tokens, not one.",
                remedy=f"Give the {name} that the model was trained with.",
            )
        return int(pieces[0])

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """The rewards of the request's ``prefix``, as JSON; the same for all ``n``."""
        if not request.score:
            raise RequestRefusedError(
                f"{self._options.model}: a reward model generates nothing.",
                remedy="Give the stage another engine, and name this one in a scorer's 'engine'.",
            )
        tokens = self.tokens(request, self._options.reasoning_as, continued=False)
        rows = await self.ask("rewards", tokens)
        found = Completion(msgspec.json.encode(rows).decode(), prompt_tokens=len(tokens))
        return [found, *(replace(found, prompt_tokens=0) for _ in range(n - 1))]

    def compute(
        self, key: Any, items: Sequence[Sequence[int]], given_up: Callable[[int], bool]
    ) -> list[list[list[float]]]:
        """One row of numbers for each conversation, or one for each tag in it."""
        import torch

        ids, mask = self.padded(items, left=False)
        with torch.inference_mode():
            logits = self._loaded(input_ids=ids, attention_mask=mask).logits.float().cpu()
        if self._options.head == "sequence":
            return [[row.tolist()] for row in logits]
        tag, *words = self._tokens
        logits = logits[..., words] if words else logits
        return [
            [logits[i, at].tolist() for at, token in enumerate(row) if token == tag]
            for i, row in enumerate(items)
        ]
