"""A causal language model at work: samples with seeds of their own, and log-probabilities of given texts."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request, Sampling, TokenLogprob
from gristmill.core.errors import RequestRefusedError
from gristmill.engines import scoring
from gristmill.engines.reading import ReplyReader, phases
from gristmill.engines.transformers.drawing import Ends, RowDraws
from gristmill.engines.transformers.local import LocalEngine
from gristmill.engines.transformers.options import LocalModel

_BEFORE = 4
"""Tokens before an answer that are decoded with it, so that its first space is not lost."""


class Transformers(LocalModel, frozen=True, kw_only=True):
    """A causal language model that Transformers runs in this process: it chats and scores given texts.

    For small models, for scores, and for machines without vLLM. Sample i of a request is drawn with a
    generator of its own, seed + i, so that it does not depend on what else is in its batch.
    """

    def open(self) -> TransformersEngine:
        """The engine; the model is loaded with ``async with``."""
        self.check()
        return TransformersEngine(self)


class _Draw(NamedTuple):
    tokens: list[int]
    seed: int


class _Drawn(NamedTuple):
    text: str
    ended: bool
    tokens: int
    logprobs: tuple[TokenLogprob, ...] | None


class TransformersEngine(LocalEngine):
    """A causal model at work; see ``Transformers``.

    A text is scored by one forward pass. It has no grammar, so a request with a schema is refused.
    """

    def __init__(self, options: Transformers) -> None:
        super().__init__(options)
        self._options = options
        self._reading = ReplyReader(options, "transformers")
        self.abilities = frozenset(Ability) - {Ability.REWARD}

    def load(self, arguments: dict[str, Any]) -> Any:
        """The model, with nothing of its own settings for sampling but the tokens that end a turn."""
        from transformers import AutoModelForCausalLM, GenerationConfig

        model = AutoModelForCausalLM.from_pretrained(self._options.model, **arguments)
        own = model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id
        model.generation_config = GenerationConfig(
            eos_token_id=ends, pad_token_id=self.tokenizer.pad_token_id, do_sample=False
        )
        return model

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, each a row of a batch."""
        if request.sampling.schema is not None:
            raise RequestRefusedError("transformers: this engine cannot obey a schema")
        tokens = self.tokens(request, self._options.reasoning_as, continued=True)
        if request.score:
            found = await self.ask("score", tokens)
            scored = scoring.scored(found, request.prefix, "transformers", len(tokens))
            return [scored, *(replace(scored, prompt_tokens=0) for _ in range(n - 1))]
        room = self.room
        if room is not None and len(tokens) >= room:
            raise RequestRefusedError(
                f"transformers: {len(tokens)} tokens leave no room in the context of {room}", own=True
            )
        start = random.SystemRandom().getrandbits(31) if request.seed is None else request.seed
        # A penalty looks at the prompt, of which padding must not be a part; and in a short context a longer
        # prompt in the batch must not leave less room to this one.
        short = room is not None and len(tokens) + request.sampling.max_tokens > room
        alike = short or request.sampling.repetition_penalty != 1.0
        length = len(tokens) if alike else None
        drawn = await asyncio.gather(
            *(self.ask((request.sampling, length), _Draw(tokens, start + first + i)) for i in range(n))
        )
        return [self._completion(request, one, len(tokens) if i == 0 else 0) for i, one in enumerate(drawn)]

    def _completion(self, request: Request, drawn: _Drawn, prompt_tokens: int) -> Completion:
        answer = self._reading.apart(request, drawn.text, "", "stop" if drawn.ended else "length")
        tokens = phases(drawn.logprobs, answer)
        return Completion(
            text=answer.text,
            finish_reason=answer.reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=drawn.tokens,
            logprobs=tokens.answer,
            reasoning=answer.reasoning,
            reasoning_logprobs=tokens.reasoning,
        )

    def compute(self, key: Any, items: Sequence[Any], given_up: Callable[[int], bool]) -> Sequence[Any]:
        """A batch of texts to score, or of answers to draw with one way of sampling."""
        return self._score(items) if key == "score" else self._draw(key[0], items, given_up)

    def _score(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[str, float | None]]]:
        """The tokens of each text, with their log-probabilities; the first has none."""
        import torch

        ids, mask = self.padded(rows, left=False)
        found = []
        with torch.inference_mode():
            logits = self._loaded(input_ids=ids, attention_mask=mask).logits
            for i, row in enumerate(rows):
                chances = torch.log_softmax(logits[i, : len(row) - 1].float(), dim=-1)
                own = chances.gather(1, ids[i, 1 : len(row), None])[:, 0].tolist()
                found.append([(self._piece(t), p) for t, p in zip(row, [None, *own], strict=True)])
        return found

    def _draw(
        self, sampling: Sampling, items: Sequence[_Draw], given_up: Callable[[int], bool]
    ) -> list[_Drawn]:
        """An answer for each of the prompts."""
        import torch

        room = self.room
        longest = max(len(item.tokens) for item in items)
        most = sampling.max_tokens if room is None else min(sampling.max_tokens, room - longest)
        ids, mask = self.padded([item.tokens for item in items], left=True)
        drawing = RowDraws(sampling, [item.seed for item in items])
        ends = Ends(sampling.stop, longest, self._decoded, given_up)
        with torch.inference_mode():
            made = self._loaded.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=most,
                logits_processor=[drawing],
                stopping_criteria=[ends],
            )
        stops = self._loaded.generation_config.eos_token_id
        stops = set(stops if isinstance(stops, list) else [stops])
        return [
            self._drawn(row.tolist()[longest:], item.tokens, stops, sampling, drawing.of(i), most)
            for i, (row, item) in enumerate(zip(made, items, strict=True))
        ]

    def _drawn(
        self,
        row: list[int],
        prompt: list[int],
        stops: set[int],
        sampling: Sampling,
        drawn: Sequence[Any],
        most: int,
    ) -> _Drawn:
        end = next((i for i, token in enumerate(row) if token in stops), None)
        kept = row if end is None else row[:end]
        head = self._decoded(prompt[-_BEFORE:])
        whole = self._decoded(prompt[-_BEFORE:] + kept)
        text = whole[len(head) :] if whole.startswith(head) else self._decoded(kept)
        cut = min((text.index(stop) for stop in sampling.stop if stop in text), default=None)
        text = text if cut is None else text[:cut]
        logprobs = None
        if sampling.logprobs is not None:
            told = [one.told(self._piece) for one in drawn[: len(kept)]]
            begins = itertools.accumulate((len(one.token) for one in told), initial=0)
            logprobs = tuple(one for one, at in zip(told, begins, strict=False) if cut is None or at < cut)
        written = min(len(kept) + (end is not None), most)
        return _Drawn(text, cut is not None or end is not None, written, logprobs)

    def _decoded(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _piece(self, token: int) -> str:
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text
