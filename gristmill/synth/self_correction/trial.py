"""One pass of self-correction per problem, as at test time, and the metrics of arXiv 2502.19613."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Exploration, Problem, Style
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.synth.self_correction.explore import Explore
from gristmill.synth.self_correction.prompts import Marker, PromptOverrides, TurnPrompt
from gristmill.synth.self_correction.search import Search


class Trial(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt, one self-evaluation and, if that says "wrong", one correction (horizon 2).

    Without a readable verdict the first attempt is the final answer.
    """

    style: Style = "verify"
    """The style whose prompts, marker and turns are used."""
    prompts: PromptOverrides = PromptOverrides()
    """The turns whose prompts replace the style's own."""
    marker: Marker | None = None
    """The endings of a self-evaluation in place of the style's own."""
    keep_reasoning: bool = False
    """As for ``explore_self_correction``."""
    temperature: Annotated[float, Meta(ge=0)] | None = 0.0
    """The temperature of every turn; ``null`` keeps the prompts' own."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Exploration
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})
    verifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.explore()  # so that prompts that cannot be filled are an error here and now

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return self.explore().places

    async def __call__(self, record: Problem, context: Context) -> list[Exploration]:
        """The trial as an exploration of one first attempt."""
        if record.answer is None:
            raise RowRejected("no reference answer", f"problem {record.id!r} has no answer to verify against")
        search = Search(self.explore(), record, record.answer, context)
        await search.draw_attempts(1)
        await search.evaluate(0, 1)
        evaluations = search.bases[0].evaluations
        if evaluations and evaluations[0].says_correct is False:
            await search.correct(0, 1)
        for _, error in search.refused.values():
            raise error
        return [
            Exploration(
                record.id, record.problem, record.answer, self.style, tuple(search.bases), stopped="budget"
            )
        ]

    def explore(self) -> Explore:
        """The same prompts as options of the sampling stage."""
        options = Explore(
            style=self.style,
            prompts=self.prompts,
            marker=self.marker,
            keep_reasoning=self.keep_reasoning,
        )
        if self.temperature is None:
            return options
        turns = options.turns
        cold = {name: _at(getattr(turns, name), self.temperature) for name in turns.__struct_fields__}
        return replace(options, prompts=PromptOverrides(**cold))

    def estimate(self, record: Problem) -> Estimate:
        """Two or three completions."""
        return replace(self.explore().estimate(record), completions_min=2, completions_max=3)


def _at(prompt: TurnPrompt, temperature: float) -> TurnPrompt:
    return replace(prompt, sampling=replace(prompt.sampling, temperature=temperature))


class CorrectionMetrics(Struct, frozen=True):
    """Shares of all ``problems`` unless said otherwise; ``None`` where nothing falls under the condition.

    ``turn1``, ``final``: first, last answer right. ``delta`` = final - turn1 = ``i_to_c`` - ``c_to_i``
    (wrong to right, right to wrong). ``p_c_to_i``: final wrong given first right and judged "wrong".
    ``rm_right``, ``rm_wrong``: right first answers judged "correct", wrong ones judged "wrong".
    ``no_verdict``: evaluations from which no verdict could be read.
    """

    problems: int
    turn1: float | None
    final: float | None
    delta: float | None
    i_to_c: float | None
    c_to_i: float | None
    p_c_to_i: float | None
    rm_right: float | None
    rm_wrong: float | None
    no_verdict: float | None


def measure(trials: Iterable[tuple[bool, bool | None, bool | None]]) -> CorrectionMetrics:
    """Metrics of (first right, says correct, second right) triples (section 5 and appendix of the paper).

    ``says correct`` is ``None`` where no verdict was read; ``second right`` is used only after "wrong".
    """
    rows = [(first, said, bool(second) if said is False else first) for first, said, second in trials]
    n = len(rows)
    right = [r for r in rows if r[0]]
    wrong = [r for r in rows if not r[0]]
    doubted = [r for r in right if r[1] is False]
    to_correct = sum(not first and last for first, _, last in rows)
    to_incorrect = sum(first and not last for first, _, last in rows)
    return CorrectionMetrics(
        problems=n,
        turn1=_share(len(right), n),
        final=_share(sum(r[2] for r in rows), n),
        delta=_share(to_correct - to_incorrect, n),
        i_to_c=_share(to_correct, n),
        c_to_i=_share(to_incorrect, n),
        p_c_to_i=_share(sum(not r[2] for r in doubted), len(doubted)),
        rm_right=_share(sum(r[1] is True for r in right), len(right)),
        rm_wrong=_share(sum(r[1] is False for r in wrong), len(wrong)),
        no_verdict=_share(sum(r[1] is None for r in rows), n),
    )


def triple(trial: Exploration) -> tuple[bool, bool | None, bool | None]:
    """What ``measure`` needs of a trial; an undecided answer (cut off, unreadable) is not right."""
    base = trial.bases[0]
    second = base.corrections[0].verdict.correct if base.corrections else None
    return base.attempt.verdict.correct, base.evaluations[0].says_correct, second


def _share(count: int, total: int) -> float | None:
    return count / total if total else None
