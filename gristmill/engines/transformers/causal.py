"""A causal language model at work: samples with seeds of their own, and log-probabilities of given texts."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request, Sampling, TokenLogprob
from gristmill.core.errors import RecipeError, RequestRefusedError
from gristmill.engines import scoring
from gristmill.engines.reading import ReplyReader, calls_in, phases
from gristmill.engines.transformers.cautious import Cautious, CautiousDraw
from gristmill.engines.transformers.drawing import Ends, RowDraws
from gristmill.engines.transformers.guiding import Guidance, Guide, load_guide
from gristmill.engines.transformers.local import LocalEngine
from gristmill.engines.transformers.options import LocalModel

_BEFORE = 4
"""Tokens before an answer that are decoded with it, so that its first space is not lost."""


class Transformers(LocalModel, frozen=True, kw_only=True):
    """A causal language model that Transformers runs in this process: it chats and scores given texts.

    For small models, for scores, and for machines without vLLM. Sample i of a request is drawn with a
    generator of its own, seed + i, so that it does not depend on what else is in its batch. With a ``guide``
    or ``cautious`` it draws from another distribution than the model's own, and scores no given texts.
    """

    guide: Guide | None = None
    """Another model that guides which token is drawn; ``null`` for none. Part of the log's key."""
    cautious: Cautious | None = None
    """Try several continuations where the model is not sure, and keep the likeliest; ``null`` to draw
    token by token. Not together with ``guide``. Part of the log's key."""

    def __post_init__(self) -> None:
        if self.guide is not None and self.cautious is not None:
            raise RecipeError(
                "transformers: 'guide' and 'cautious' do not work together.",
                remedy="Give one of them, or two engines with one each.",
            )

    @property
    def identity(self) -> str:
        """As of other local models, with what guides its draws."""
        own: str = LocalModel.identity.fget(self)  # type: ignore[attr-defined]
        return " ".join([own, *(aid.identity for aid in (self.guide, self.cautious) if aid is not None)])

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
        self._guide: Any = None
        aided = options.guide is not None or options.cautious is not None
        self.abilities = frozenset(Ability) - {Ability.REWARD} - ({Ability.SCORE} if aided else set())

    def load(self, arguments: dict[str, Any]) -> Any:
        """The model, with nothing of its own settings for sampling but the tokens that end a turn."""
        from transformers import AutoModelForCausalLM, GenerationConfig

        model = AutoModelForCausalLM.from_pretrained(self._options.model, **arguments)
        if self._options.guide is not None:
            self._guide = load_guide(self._options.guide, self.tokenizer, {"dtype": arguments["dtype"]})
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
        if request.score and Ability.SCORE not in self.abilities:
            raise RequestRefusedError(
                "transformers: an engine with 'guide' or 'cautious' scores no given texts.",
                remedy="Score them with an engine of the same model without it.",
            )
        if self._options.cautious is not None and request.sampling.temperature == 0:
            raise RequestRefusedError(
                "transformers: 'cautious' draws several continuations, which are all the same at "
                "temperature 0.",
                remedy="Give a temperature above 0.",
            )
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
        called = request.tools and answer.reason == "stop"
        text, calls = calls_in(answer.text) if called else (answer.text, ())
        return Completion(
            text=text,
            finish_reason="tool_calls" if calls else answer.reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=drawn.tokens,
            logprobs=tokens.answer,
            reasoning=answer.reasoning,
            reasoning_logprobs=tokens.reasoning,
            tool_calls=calls,
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
        if self._options.cautious is not None:
            return self._draw_cautiously(self._options.cautious, sampling, items, given_up)
        drawing = RowDraws(sampling, [item.seed for item in items])
        ends = Ends(sampling.stop, longest, self._decoded, given_up)
        guided = [] if self._options.guide is None else [self._guidance(self._options.guide, mask)]
        with torch.inference_mode():
            made = self._loaded.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=most,
                logits_processor=[*guided, drawing],
                stopping_criteria=[ends],
            )
        return [
            self._drawn(row.tolist()[longest:], item.tokens, sampling, drawing.of(i), most)
            for i, (row, item) in enumerate(zip(made, items, strict=True))
        ]

    @property
    def _stops(self) -> set[int]:
        """The tokens that end an answer."""
        stops = self._loaded.generation_config.eos_token_id
        return set(stops if isinstance(stops, list) else [stops])

    def _guidance(self, guide: Guide, mask: Any) -> Guidance:
        return Guidance(guide, self._guide.to(self._loaded.device), mask)

    def _draw_cautiously(
        self,
        cautious: Cautious,
        sampling: Sampling,
        items: Sequence[_Draw],
        given_up: Callable[[int], bool],
    ) -> list[_Drawn]:
        """An answer for each of the prompts, one after the other: the trials are the rows of a batch."""
        import torch

        drawing = CautiousDraw(cautious, self._loaded, sampling, self._stops, self._piece)
        found = []
        for place, item in enumerate(items):
            prompt, _ = self.padded([item.tokens], left=True)
            most = (
                sampling.max_tokens
                if self.room is None
                else min(sampling.max_tokens, self.room - prompt.shape[1])
            )

            def done(tokens: Sequence[int], place: int = place) -> bool:
                text = self._decoded(tokens) if sampling.stop else ""
                return given_up(place) or any(stop in text for stop in sampling.stop)

            with torch.inference_mode():
                drawn = drawing.draw(prompt, item.seed, most, done)
            row = [one.token for one in drawn]
            found.append(self._drawn(row, item.tokens, sampling, drawn, most))
        return found

    def _drawn(
        self,
        row: list[int],
        prompt: list[int],
        sampling: Sampling,
        drawn: Sequence[Any],
        most: int,
    ) -> _Drawn:
        stops = self._stops
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
