"""Monte Carlo evidence for the steps of a sampled solution: rollouts from its prefixes."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta, Struct, field

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Judged, Sampled
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.steps import Step, ValuedSolution, tally
from gristmill.core.verdicts import Verdict
from gristmill.synth.step_values.allocation import Allocation, Outcomes, Positive
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.step_values.steps import Split

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""


class Valuing(Allocation, RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options and the work of stages that value steps by rollouts; see ``Allocation`` for how many.

    A subclass says what the steps of a record are and how rollouts are drawn from a prefix of them.
    """

    writes: ClassVar[type[Struct]] = ValuedSolution
    verifies: ClassVar[bool] = True

    only: Literal["wrong", "right", "all"] = "all"
    """The solutions to value, by their verdicts."""
    start: Annotated[int, Meta(ge=0)] = 0
    """The rollouts from the question alone (V of the first state, for advantages)."""
    skip_certain: bool = False
    """Whether those come first, in draws of ``batch``, and a problem that is always or never solved in them
    and in the solution at hand is rejected (OmegaPRM, arXiv 2406.06592; openr takes 32). All schemes except
    ``fixed`` stop at the first that differs."""
    value_k: Positive | None = None
    """The rollouts that value a step under ``adaptive`` and ``binary``: once these have ended, every prefix
    that they looked at and every one before the error found (all of a right solution) is continued to so
    many, and soft labels, advantages and intervals are of the first so many. Without it they give the error
    and hard labels alone: they stop when they have seen a right rollout, so that its share is too high. Under
    ``skip_certain`` so many more are drawn from the question, whatever the scheme: those that decided whether
    it is kept do not measure it."""
    prover: str | None = None
    """The name of a further engine whose rollouts are drawn from every prefix, and from the question,
    whatever the scheme (PAV, arXiv 2410.08146)."""
    prover_k: Positive = 8
    """The prover's rollouts from each of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_k is not None and self.max_rollouts is not None:
            raise RecipeError(
                "step_values: max_rollouts may end a search before value_k of its rollouts are drawn.",
                remedy="Leave out one of the two; k bounds the search too.",
            )
        if self.skip_certain and not self.start:
            raise RecipeError(
                "step_values: skip_certain has no rollouts from the question to judge by.",
                remedy="Set start, for example to 32.",
            )

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The prover, asked as the policy is."""
        return {} if self.prover is None else {self.prover: self.needs}

    async def __call__(self, record: Sampled, context: Context) -> list[ValuedSolution]:
        """The solution with its rollouts. ``RowRejected`` for one that cannot or should not be valued."""
        work = self.work(self.admit(record), record, context)
        start, screened = await work.from_question()
        prover, (rollouts, stopped, first_error) = await asyncio.gather(work.by_prover(), work.by_scheme())
        steps = zip(work.texts, [*rollouts, ()], [*prover[1:], ()], work.acted, strict=True)
        return [
            ValuedSolution(
                id=record.id,
                problem_id=record.problem_id,
                problem=record.problem,
                answer=work.solution.answer,
                messages=work.messages,
                steps=tuple(Step(*step) for step in steps),
                verdict=work.solution.verdict,
                scheme=self.scheme,
                stopped=stopped,
                start=start,
                start_prover=prover[0],
                first_error=first_error,
                valued=self.value_k or 0,
                screened=screened,
            )
        ]

    def estimate(self, record: Sampled) -> Estimate:
        """Bounds in completions; tokens count half of the solution as a prefix, and four characters each."""
        try:
            solution = self.admit(record)
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        prefixes = len(solution.steps) - 1
        least, most = self.bounds(prefixes, solution.verdict.correct)
        held_out = self.value_k or 0
        if self.scheme != "fixed":
            most += prefixes * held_out
            least += prefixes * held_out if solution.verdict.correct and not least else 0
        by_prover = (prefixes + 1) * self.prover_k if self.prover else 0
        if self.skip_certain:
            # At least until the first draw is seen; one that is dropped brings nothing more.
            least = min(self.start, self.batch if self.scheme != "fixed" else self.start)
        else:
            least += self.start + by_prover
        chars = sum(len(m.content) for m in record.messages) + len(record.completion) // 2
        most += self.start + by_prover + (held_out if self.skip_certain else 0)
        return Estimate(least, most, chars // _CHARS_PER_TOKEN, self.longest, rows_max=1)

    def admit(self, record: Sampled) -> Solution:
        """What can be valued of a sample; ``RowRejected`` where it is not to be."""
        where = f"sample {record.id!r}"
        if record.answer is None:
            raise RowRejected("no reference answer", f"{where} has no answer to judge rollouts by")
        if record.finish_reason != "stop":
            raise RowRejected("unfinished solution", f"{where} ended by {record.finish_reason}")
        if record.verdict is None or not record.verdict.decided:
            found = record.verdict.outcome if record.verdict else "none"
            raise RowRejected("solution without a verdict", f"{where}: its verdict is {found}")
        if self.only != "all" and record.verdict.correct != (self.only == "right"):
            raise RowRejected("solution is right" if record.verdict.correct else "solution is wrong", where)
        steps = self.steps_of(record)
        if not steps:
            raise RowRejected("solution without steps", f"{where} is empty")
        return Solution(tuple(steps), record.answer, record.verdict)

    @property
    @abstractmethod
    def longest(self) -> int:
        """The most tokens of one completion."""

    @abstractmethod
    def steps_of(self, record: Sampled) -> Sequence[str]:
        """The texts of the steps."""

    @abstractmethod
    def work(self, solution: Solution, record: Sampled, context: Context) -> RolloutWork:
        """The rollouts of one record."""


class StepValues(Valuing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values the steps of a solution by rollouts from its prefixes; see ``Allocation`` for how many.

    The last step's value is the solution's own verdict and costs nothing. Rollouts that never succeed in n
    tries still allow a rate up to about 3/n at 95 %.

    Seeds: prefix ``i`` (steps) of a record is call ``i`` of that record, whatever the scheme, so that
    schemes and budgets share their rollouts through the log. The question's rollouts are call 0 of the
    *problem*, as in the stage ``sample``: solutions of one problem share them, and with the same sampling
    options they are its very samples. The prover's calls are negative.
    """

    reads: ClassVar[type[Struct]] = Sampled

    split: Split = Split()
    """How the solution is cut into steps."""
    rollouts: Rollouts = field(default_factory=Rollouts)
    """How rollouts are drawn."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Continuing an assistant turn is needed only where the fallback is refused."""
        return frozenset({Ability.CHAT} if self.rollouts.fallback else {Ability.CHAT, Ability.CONTINUE})

    @property
    def longest(self) -> int:
        """As the rollouts are sampled."""
        return self.rollouts.sampling.max_tokens

    def steps_of(self, record: Sampled) -> Sequence[str]:
        """The parts into which ``split`` cuts the completion."""
        return self.split(record.completion)

    def work(self, solution: Solution, record: Sampled, context: Context) -> RolloutWork:
        """Continuations of the prefixes."""
        return _Continuations(self, solution, record, context)


class Solution(NamedTuple):
    """What is valued of a record: its steps, the reference answer and the verdict on its own answer."""

    steps: tuple[str, ...]
    answer: str
    verdict: Verdict


class RolloutWork:
    """The rollouts of one record; a subclass draws them."""

    def __init__(self, options: Any, solution: Solution, record: Sampled, context: Context) -> None:
        self.options = options
        self.solution = solution
        self.record = record
        self.context = context
        self.texts = solution.steps
        self.messages = record.messages
        """What the model was asked, before the first step."""
        self.acted: Sequence[tuple[Message, ...]] = [()] * len(solution.steps)
        """Of each step the turns that it is, where it is not a part of one text."""
        self.prefixes = self.texts[:-1]
        """The steps from whose ends rollouts are drawn."""

    async def from_question(self) -> tuple[tuple[Judged, ...], int]:
        """The rollouts from the question alone, and how many of them screened it; ``RowRejected`` for a
        problem that is to be skipped."""
        options, drawn = self.options, tuple[Judged, ...]()
        seen = {self.solution.verdict.correct}
        by_and_by = options.skip_certain and options.scheme != "fixed"
        while len(drawn) < options.start and not (by_and_by and len(seen) == 2):
            n = options.start - len(drawn)
            drawn += await self.draw(0, len(drawn), min(n, options.batch) if by_and_by else n)
            seen |= {label for label in outcomes(drawn) if label is not None}
        if options.skip_certain and len(seen) == 1:
            how = "always" if True in seen else "never"
            where = f"problem {self.record.problem_id!r}"
            raise RowRejected(f"{how} solved", f"{where}: {len(drawn)} rollouts and {self.record.id!r}")
        if not options.skip_certain:
            return drawn, 0
        return drawn + await self.draw(0, len(drawn), options.value_k or 0), len(drawn)

    async def by_scheme(self) -> tuple[list[tuple[Judged, ...]], str, int | None]:
        """The rollouts of each prefix but the whole, why they ended, and the first error."""
        drawn: list[tuple[Judged, ...]] = [()] * len(self.prefixes)
        solved = self.solution.verdict.correct
        while (decision := self.options.decide([outcomes(d) for d in drawn], solved)).draws:
            more = await asyncio.gather(*(self.draw(i + 1, len(drawn[i]), n) for i, n in decision.draws))
            for (index, _), rollouts in zip(decision.draws, more, strict=True):
                drawn[index] += rollouts
        await self._value(drawn, decision.first_error)
        return drawn, decision.stopped, decision.first_error

    async def _value(self, drawn: list[tuple[Judged, ...]], first_error: int | None) -> None:
        """Continue to ``value_k`` what was looked at or lies before the error.

        Whether a prefix is among these never depends on its own rollouts, nor does where they end: looked at
        was it before its first one, and what was not looked at is placed by the others' alone.
        """
        k = self.options.value_k
        if k is None or self.options.scheme == "fixed":
            return
        end = len(drawn) if first_error is None or first_error < 0 else first_error
        wanted = [i for i, seen in enumerate(drawn) if (seen or i < end) and len(seen) < k]
        more = await asyncio.gather(*(self.draw(i + 1, len(drawn[i]), k - len(drawn[i])) for i in wanted))
        for index, rollouts in zip(wanted, more, strict=True):
            drawn[index] += rollouts

    async def by_prover(self) -> list[tuple[Judged, ...]]:
        """The prover's rollouts from the question, then from each prefix; empty without a prover."""
        if self.options.prover is None:
            return [()] * (len(self.prefixes) + 1)
        engine = self.context.named(self.options.prover)
        calls = (self.draw(i, 0, self.options.prover_k, engine) for i in range(len(self.prefixes) + 1))
        return await asyncio.gather(*calls)

    async def draw(self, steps: int, first: int, n: int, prover: Engine | None = None) -> tuple[Judged, ...]:
        """Rollouts ``first .. first + n - 1`` from the prefix of that many steps, by the prover if given."""
        raise NotImplementedError

    def seeds(self, steps: int, *, by_prover: bool) -> tuple[str, int]:
        """Whose seed the rollouts behind so many steps are drawn with, and which of its calls they are."""
        owner = self.record.id if steps else self.record.problem_id
        return owner, -1 - steps if by_prover else steps


class _Continuations(RolloutWork):
    """Rollouts that continue the text of a solution."""

    async def draw(self, steps: int, first: int, n: int, prover: Engine | None = None) -> tuple[Judged, ...]:
        """Rollouts ``first .. first + n - 1`` from the prefix of that many steps, by the prover if given."""
        owner, call = self.seeds(steps, by_prover=prover is not None)
        rollouts: Rollouts = self.options.rollouts
        return await rollouts.draw(
            self.context,
            self.record.messages,
            "".join(self.texts[:steps]),
            self.solution.answer,
            seed=self.context.seed_for(owner, call),
            n=n,
            first=first,
            engine=prover,
        )


def outcomes(rollouts: Sequence[Judged]) -> Outcomes:
    """What came of each rollout; see ``Tally`` for which ones are undecided."""
    seen = [tally((r,)) for r in rollouts]
    return [bool(t.correct) if t.decided else None for t in seen]
