"""Rewards by a classification head, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError
from gristmill.engines.transformers.local import LocalEngine
from gristmill.engines.transformers.options import LocalModel


class TransformersReward(LocalModel, frozen=True, kw_only=True):
    """A reward model that Transformers runs in this process: with a head over the whole conversation, or one
    over its tokens (a process reward model)."""

    head: Literal["sequence", "token"] = "sequence"
    """``sequence``: the numbers of a sequence classification head; ``token``: those of a token
    classification head at each ``tag``."""
    tag: str = ""
    """With ``token``: the step tag, which is one token of the model, such as ``<extra_0>``."""

    def __post_init__(self) -> None:
        if (self.head == "token") != bool(self.tag):
            raise RecipeError(
                "transformers-reward: 'head: token' and 'tag' go together.",
                remedy="Give both, or neither for a reward of the whole answer.",
            )

    @property
    def identity(self) -> str:
        """As of other local models, with the tag."""
        own: str = LocalModel.identity.fget(self)  # type: ignore[attr-defined]
        return f"{own} rewards" + (f" at {self.tag}" if self.tag else "")

    def open(self) -> TransformersRewardEngine:
        """The engine; the model is loaded with ``async with``."""
        self.check()
        return TransformersRewardEngine(self)


class TransformersRewardEngine(LocalEngine):
    """A reward model at work; see ``TransformersReward`` and ``Ability.REWARD``."""

    def __init__(self, options: TransformersReward) -> None:
        super().__init__(options)
        self._options = options
        self.abilities = frozenset({Ability.REWARD})

    def load(self, arguments: dict[str, Any]) -> Any:
        """The model with its head. ``EngineError`` for a tag that is not one token."""
        from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

        if self._options.head == "sequence":
            return AutoModelForSequenceClassification.from_pretrained(self._options.model, **arguments)
        pieces = self.tokenizer(self._options.tag, add_special_tokens=False)["input_ids"]
        if len(pieces) != 1:
            raise EngineError(
                f"{self._options.model}: the tag {self._options.tag!r} is {len(pieces)} tokens, not one.",
                remedy="Give the tag that the model was trained with.",
            )
        return AutoModelForTokenClassification.from_pretrained(self._options.model, **arguments)

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
        [tag] = self.tokenizer(self._options.tag, add_special_tokens=False)["input_ids"]
        return [
            [logits[i, at].tolist() for at, token in enumerate(row) if token == tag]
            for i, row in enumerate(items)
        ]
