"""A judge that writes a rubric or a solution of its own first, and whose trace is kept (RM-R1, arXiv
2505.02387)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill_messages, require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.base import Comparison, bounds, draw, quoted
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import RIGHT, SYSTEM, WRONG, side
from gristmill.verifiers.judges.published import read_published
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.raters.base import evidence

_FIRST = (
    "First decide what kind of PROBLEM it is. If it has a result that can be checked (mathematics, code, "
    "facts), solve it yourself, under the heading Solution. Otherwise write what a good answer needs, with "
    "weights in percent and the reason for them, under the heading Rubric. "
)
_LAST = "End with your verdict in double brackets, written only once and as the last thing: {marked}."
_PAIRED = Message(
    "user",
    "{problem}\n\n{response_a}\n\n{response_b}\n\nWhich of the two answers PROBLEM better? "
    + _FIRST
    + "Then, "
    "under the heading Evaluation, hold both answers against it, with quotes from them. Neither length nor "
    "the order of the two matters. " + _LAST,
)
_SINGLE = Message(
    "user",
    "{problem}\n\n{response}\n\nIs RESPONSE a right and complete answer to PROBLEM? "
    + _FIRST
    + "Then, under "
    "the heading Evaluation, hold the answer against it, with quotes from it. " + _LAST,
)


class JudgeTrace(Struct, frozen=True):
    """One judgement: the turns that asked, what was thought and written, and what was read of it.

    ``said`` is the label; ``None`` if none could be read, with ``why``.
    """

    messages: tuple[Message, ...]
    reply: str
    reasoning: str = ""
    said: str | None = None
    why: str = ""


class ReasonedJudge(Struct, frozen=True, forbid_unknown_fields=True):
    """Judges by a solution or a rubric that it writes first. The reference is not shown: the judge has to
    come to its verdict by itself."""

    samples: Annotated[int, Meta(ge=1, le=100)] = 1
    """Judgements of one answer, or of each order of two answers, 1 to 100. If fewer than half of them can be
    read, nothing is decided."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=4096)
    """How they are sampled; several need a temperature above 0."""
    paired: tuple[Message, ...] = (SYSTEM, _PAIRED)
    """The prompt for two answers, with ``{problem}``, ``{response_a}``, ``{response_b}``, ``{marked}`` and
    ``{fence}``."""
    single: tuple[Message, ...] = (SYSTEM, _SINGLE)
    """The prompt for one answer, with ``{response}`` in the place of the two."""

    def __post_init__(self) -> None:
        require("paired", self.paired, "response_a", "response_b", "marked", known=("problem", "fence"))
        require("single", self.single, "response", "marked", known=("problem", "fence"))
        if self.samples > 1 and self.sampling.temperature == 0:
            raise RecipeError(
                f"reasoned judge: {self.samples} samples at temperature 0 are all the same.",
                remedy="Set sampling.temperature to 0.7.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """The samples."""
        return bounds(1, self.samples, "text", self.sampling.max_tokens, problem, completion)

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """The samples, in each of the two orders."""
        return bounds(2, self.samples, "text", self.sampling.max_tokens, problem, first, second)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer by the majority of the judgements; the detail holds them, as JSON."""
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return shown
        traces = await self.trace(shown, problem=problem, engine=engine, seed=seed)
        share = _share(traces, RIGHT)
        detail = evidence(traces=[_told(t) for t in traces])
        rule = f"reasoned judge: {sum(t.said is not None for t in traces)} of {len(traces)} read"
        if share is None or share == 0.5:
            return unparseable(rule, detail)
        return decided(share > 0.5, rule=rule, score=share, detail=detail)

    async def compare(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> Comparison:
        """Which of two answers is better. Both orders always run; if they disagree, it is a tie."""
        shown = judged_parts(first, second)
        if isinstance(shown, str):
            return Comparison(None, detail=shown)
        ahead, behind = await asyncio.gather(
            *(
                self.trace_pair(a, b, problem=problem, engine=engine, seed=seed)
                for a, b in (shown, shown[::-1])
            )
        )
        shares = _share(ahead, "A"), _share(behind, "B")
        detail = evidence(ahead=[_told(t) for t in ahead], behind=[_told(t) for t in behind])
        if shares[0] is None or shares[1] is None:
            return Comparison(None, detail=detail)
        mean = (shares[0] + shares[1]) / 2
        sides = {side(shares[0]), side(shares[1])}
        winner = sides.pop() if len(sides) == 1 else "tie"
        return Comparison(winner, mean, 1 - mean, (shares[0], shares[1]), detail)

    async def trace(
        self, completion: str, *, problem: str, engine: Engine, seed: int
    ) -> tuple[JudgeTrace, ...]:
        """The judgements of one answer: ``correct`` or ``incorrect``."""
        values = quoted(seed, problem=problem, response=completion)
        return await self._traces(self.single, values, (RIGHT, WRONG), engine, seed)

    async def trace_pair(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> tuple[JudgeTrace, ...]:
        """The judgements of two answers in this order: ``A`` or ``B``."""
        values = quoted(seed, problem=problem, response_a=first, response_b=second)
        return await self._traces(self.paired, values, ("A", "B"), engine, seed)

    async def _traces(
        self,
        prompt: Sequence[Message],
        values: Mapping[str, str],
        labels: tuple[str, str],
        engine: Engine,
        seed: int,
    ) -> tuple[JudgeTrace, ...]:
        messages = fill_messages(prompt, **values, marked=" or ".join(f"[[{label}]]" for label in labels))
        drawn = await draw(engine, Request(messages, self.sampling, seed), self.samples)
        made = []
        for answer in drawn:
            said = read_published(answer, labels)
            unread = isinstance(said, Unread)
            made.append(
                JudgeTrace(
                    messages,
                    answer.text,
                    answer.reasoning,
                    None if unread else str(said),
                    said.why if isinstance(said, Unread) else "",
                )
            )
        return tuple(made)


def _share(traces: Sequence[JudgeTrace], label: str) -> float | None:
    read = [t.said for t in traces if t.said is not None]
    return read.count(label) / len(read) if read and 2 * len(read) >= len(traces) else None


def _told(trace: JudgeTrace) -> dict[str, Any]:
    told = {"said": trace.said, "reasoning": trace.reasoning, "reply": trace.reply, "why": trace.why}
    return {name: value for name, value in told.items() if value}
