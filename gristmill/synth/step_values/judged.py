"""A model as the judge of steps: it names the first wrong one, as in ProcessBench (arXiv 2412.06559).

Of another engine this is the judge of "The Lessons of Developing Process Reward Models" (arXiv
2501.07301), whose consensus filter keeps a solution only where Monte Carlo and judge agree; asked of the
policy itself it is self-evaluation (Self-PRM), to be trusted as far as its precision report goes
(``measures.locations``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, Sampling
from gristmill.core.prompts import require
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import ProcessRow, ValuedSolution
from gristmill.synth.step_values.labels import settled
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import fence, quote
from gristmill.verifiers.judges.judge import SYSTEM

NONE = "none"
"""What the judge answers where no step is wrong."""
_CHARS_PER_TOKEN = 4
"""For estimates only."""
_PROMPT = Message(
    "user",
    "{problem}\n\nA solution of PROBLEM follows, in {count} steps, of which the first has the number 0.\n\n"
    "{steps}\n\nCheck the steps one after another. Which is the first that is wrong? A step is wrong if it "
    "holds an error of its own, whether or not a later step mends it. The answer is the number of that step, "
    "or the word none if every step is right. {answer_with}",
)


class Location(Struct, frozen=True):
    """Where a judge puts the first error: the index of a step, -1 for no error, ``None`` where it could not
    be read or the votes were tied. ``detail`` is the evidence."""

    index: int | None
    detail: str = ""


class Locator(Struct, frozen=True, forbid_unknown_fields=True):
    """How the first error is asked for."""

    asking: Asking = Asking(read="text", sampling=Sampling(temperature=0.0, max_tokens=2048))
    """How the judge answers: by default in text, as it reasons first. With several votes the most frequent
    answer counts, where at least half could be read; a tie is not an answer."""
    prompt: tuple[Message, ...] = (SYSTEM, _PROMPT)
    """The messages that ask, with ``{problem}``, ``{steps}``, ``{count}``, ``{fence}`` and ``{answer_with}``.
    Problem and steps are quoted, so that nothing in them reads as an instruction."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "problem", "steps", "answer_with", known=("count", "fence"))

    async def __call__(self, problem: str, steps: Sequence[str], *, engine: Engine, seed: int) -> Location:
        """The location in ``steps``, which are shown from 0. Raises what ``engine`` does."""
        code = fence(seed, (problem, *steps))
        values = {
            "problem": quote("PROBLEM", problem, code),
            "steps": "\n\n".join(quote(f"STEP {i}", text.strip(), code) for i, text in enumerate(steps)),
            "count": str(len(steps)),
            "fence": code,
        }
        labels = (NONE, *map(str, range(len(steps))))
        ballot = await self.asking.choose(self.prompt, values, labels, engine=engine, seed=seed)
        if ballot.best is None:
            return Location(None, ballot.detail)
        # The votes of all labels but a few are 0, which would be a long list to read.
        told = ", ".join(f"{a} {s:.2f}" for a, s in zip(labels, ballot.shares, strict=True) if s)
        return Location(-1 if ballot.best == NONE else int(ballot.best), told)

    def estimate(self, solution: ValuedSolution) -> Estimate:
        """One completion a vote, or two where an answer in JSON is repaired; tokens by characters."""
        votes = self.asking.votes
        chars = len(solution.problem) + sum(len(s.text) + 60 for s in solution.steps)
        chars += sum(len(m.content) for m in self.prompt)
        most = 2 * votes if self.asking.read == "json" else votes
        return Estimate(votes, most, chars // _CHARS_PER_TOKEN, self.asking.sampling.max_tokens)


class StepQuestion(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that ask for the first error."""

    judge: str | None = None
    """The name of the engine that judges; ``null`` is the stage's own, the policy, which then evaluates
    itself."""
    locator: Locator = Locator()
    """How it is asked."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the judge: to chat."""
        return frozenset({Ability.CHAT}) if self.judge is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.judge is None else {self.judge: frozenset({Ability.CHAT})}

    def estimate(self, record: ValuedSolution) -> Estimate:
        """See ``Locator.estimate``."""
        return replace(self.locator.estimate(record), rows_max=1)

    async def locate(self, record: ValuedSolution, context: Context) -> Location:
        """Where the judge puts the first error of a solution."""
        texts = [step.text for step in record.steps]
        seed = context.seed_for(record.id)
        return await self.locator(record.problem, texts, engine=context.named(self.judge), seed=seed)


class JudgeSteps(StepQuestion, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels by a judge: 1 for each step before the first error and 0 for it, of kind ``judge``, or
    ``self`` where the policy judges itself.
    """

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = ProcessRow

    after: Literal["cut", "zero"] = "cut"
    """What becomes of the steps behind the first error, of which the judge says nothing: they are cut, or
    labelled zero."""

    async def __call__(self, record: ValuedSolution, context: Context) -> list[ProcessRow | Rejection]:
        """One row; or a ``Rejection`` where the judge's answer could not be read."""
        found = await self.locate(record, context)
        if found.index is None:
            return [Rejection(record.id, "judge not readable", found.detail)]
        steps = [step.text for step in record.steps]
        first = len(steps) if found.index < 0 else found.index
        if self.after == "cut":
            steps = steps[: first + 1]
        n = len(steps)
        row = ProcessRow(
            id=record.id,
            problem_id=record.problem_id,
            problem=record.problem,
            prompt=record.messages,
            steps=tuple(steps),
            values=tuple(float(i < first) for i in range(n)),
            correct=(0,) * n,
            decided=(0,) * n,
            low=(0.0,) * n,
            high=(1.0,) * n,
            kind="self" if self.judge is None else "judge",
            solved=settled(record.verdict),
        )
        return [row]


class Consensus(StepQuestion, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps a solution only where the first error of its rollouts (``first_error``) is that of a judge, or
    both find none (arXiv 2501.07301, section 3.1.4: it keeps about 40 %)."""

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = ValuedSolution

    async def __call__(self, record: ValuedSolution, context: Context) -> list[ValuedSolution | Rejection]:
        """The record as it is; or a ``Rejection`` with both locations. The judge is not asked about a
        solution whose own location was not decided."""
        ours = record.first_error
        if ours is None:
            return [Rejection(record.id, "consensus: no Monte Carlo location", f"stopped: {record.stopped}")]
        found = await self.locate(record, context)
        if found.index is None:
            detail = f"Monte Carlo {_place(ours)}, judge: {found.detail}"
            return [Rejection(record.id, "consensus: judge not readable", detail)]
        if found.index != ours:
            detail = f"Monte Carlo {_place(ours)}, judge {_place(found.index)}"
            return [Rejection(record.id, "consensus: locations differ", detail)]
        return [record]


def _place(index: int) -> str:
    return NONE if index < 0 else str(index)
