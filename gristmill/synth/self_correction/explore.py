"""Sequential rejection sampling: attempts, self-evaluations, corrections (arXiv 2502.19613, section 3.1)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator, Iterable
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues, fill, require, require_row, within
from gristmill.core.records import Base, Evaluation, Exploration, Judged, Problem, Style
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.synth.self_correction.expected import PROBLEMS, completions
from gristmill.synth.self_correction.goals import (
    GOALS,
    Beta,
    Count,
    GoalName,
    Rates,
    Want,
    assign,
    attempt_right,
    met,
    missing,
    outcomes,
    says,
    usable,
)
from gristmill.synth.self_correction.prompts import (
    Marker,
    PromptOverrides,
    Prompts,
    Said,
    marker_of,
    prompts_of,
)
from gristmill.verifiers.rules.arithmetic import sound

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Step = Literal["evaluate", "correct"]


class Prior(Struct, frozen=True, forbid_unknown_fields=True):
    """Beta prior of every rate of a problem (attempts, verdicts, corrections)."""

    a: Annotated[float, Meta(gt=0)] = 0.6
    """The successes that it counts as."""
    b: Annotated[float, Meta(gt=0)] = 1.2
    """The failures that it counts as."""


class CheckHolds(Struct, frozen=True, forbid_unknown_fields=True):
    """What a self-evaluation has to contain. ``{reference}`` is the reference, ``{answer}`` the attempt's."""

    right: str = ""
    """The text in the evaluation of a right attempt."""
    wrong: str = ""
    """The text in the evaluation of a wrong attempt."""


class Explore(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Draws attempts, self-evaluations and corrections for a problem.

    A correction continues the first evaluation that said "wrong": the model is told so by itself, also
    where the attempt was right. Attempts with the same text are worked only once.
    """

    scheme: Literal["adaptive", "fixed"] = "adaptive"
    """``adaptive`` stops once what ``want`` asks of a problem is in hand, or is unlikely to come (see
    ``min_chance``); the counts below are then upper limits. ``fixed`` draws the paper's fixed numbers."""
    style: Style = "verify"
    """``verify`` has separate turns with ``[VERIFY]`` markers, ``yes_no`` two turns with yes and no,
    ``merged`` one long chain of thought."""
    prompts: PromptOverrides = PromptOverrides()
    """The turns whose prompts replace the style's own."""
    marker: Marker | None = None
    """The endings of a self-evaluation in place of the style's own."""
    attempts: Positive = 50
    """The attempts of a problem (N1 in the paper)."""
    evaluations: Positive = 8
    """The self-evaluations of an attempt (N2)."""
    corrections_of_wrong: Count = 8
    """The corrections of a wrong attempt on which a verdict that fits was found (M1)."""
    corrections_of_right: Count = 4
    """The corrections of a right attempt on which a verdict that fits was found (M2)."""
    want: Want = field(default_factory=Want)
    """What is wanted of each problem."""
    prior: Prior = Prior()
    """What is assumed of a problem's rates before anything is drawn."""
    min_chance: Share = 0.3
    """A problem or attempt is given up once the posterior chance that it still gives what is wanted falls
    below this."""
    lookahead: Positive = 8
    """The further attempts that this chance looks at."""
    attempts_per_round: Positive = 2
    """The attempts drawn at once."""
    unbiased: bool = False
    """Whether ``adaptive`` works attempts in the order in which they were drawn, each with all its
    evaluations and then all its corrections before the next. Without it the attempt that is judged well at
    once is kept rather than one that needs several evaluations, which shifts what is kept
    (docs/self-correction.md)."""
    keep_reasoning: bool = False
    """Whether a model that reasons is sent what it thought in earlier turns, where a prompt has an
    assistant's turn that is ``{attempt}`` or ``{evaluation}`` alone. Most models' chat templates leave it
    out, as it is left out here."""
    sound_arithmetic: bool = False
    """Whether a right answer or a verdict that fits counts only where no equation in its text is false and
    ``statements`` or more are true (``gristmill.verifiers.rules.arithmetic``): against texts that are right
    by luck. For plain exact arithmetic: rounding, as in 1/3 = 0.33, reads as false."""
    statements: Count = 0
    """The true equations that ``sound_arithmetic`` asks for."""
    check_holds: CheckHolds = CheckHolds()
    """What the text of a verdict that fits has to contain for it to count."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Exploration
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})
    verifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a wish that the prior alone makes hopeless: no sample would ever be drawn for it."""
        require_row("explore_self_correction", "prompts.attempt", self.places["prompts.attempt"])
        for side in (self.check_holds.right, self.check_holds.wrong):
            require("check_holds", side, known=("reference", "answer"))
        if self.scheme == "fixed":
            return
        unknown = Rates.of((), Beta(self.prior.a, self.prior.b))
        for name in GOALS:
            chance = self.chance(name, None, unknown)
            if self.want.limit(name) != 0 and chance < self.min_chance:
                raise RecipeError(
                    f"want: {name} has a chance of {chance:.2f} before anything is drawn, within so few "
                    f"evaluations and corrections; min_chance {self.min_chance:g} gives it up at once.",
                    remedy=f"Allow more of them, lower min_chance, or set want to {{{name}: 0}}.",
                )

    def chance(self, name: GoalName, base: Base | None, rates: Rates) -> float:
        """Chance that an attempt (``None``: a new one) comes to meet a goal within its own budget."""
        goal, chance = GOALS[name], 1.0
        evaluations = self.evaluations - (len(base.evaluations) if base else 0)
        corrections = self.corrections(goal.right) - (len(base.corrections) if base else 0)
        for said in goal.says - (says(base) if base else set()):
            chance *= rates.verdict(goal.right, said, evaluations)
        for came in goal.outcomes - (outcomes(base) if base else set()):
            chance *= rates.outcome(goal.right, came, corrections)
        return chance

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("prompts", self.turns.places)

    @cached_property
    def turns(self) -> Prompts:
        """The prompts in use: the style's own, with the recipe's in their place where given."""
        return self.prompts.over(prompts_of(self.style))

    @cached_property
    def reader(self) -> Marker:
        """The marker in use."""
        return self.marker or marker_of(self.style)

    def corrections(self, right: bool) -> int:
        """The most corrections of one attempt."""
        return self.corrections_of_right if right else self.corrections_of_wrong

    async def __call__(self, record: Problem, context: Context) -> list[Exploration | Rejection]:
        """One exploration of the problem, whatever came of it, and a ``Rejection`` for each attempt whose
        evaluation or correction was refused: it is worked no further, and the others are."""
        if record.answer is None:
            raise RowRejected("no reference answer", f"problem {record.id!r} has no answer to verify against")
        search = Search(self, record, record.answer, context)
        stopped = await (search.adaptive() if self.scheme == "adaptive" else search.fixed())
        search.measure_shift()
        made = Exploration(record.id, record.problem, record.answer, self.style, tuple(search.bases), stopped)
        return [made, *search.rejections()]

    def estimate(self, record: Problem) -> Estimate:
        """Bounds: the least is one round of attempts, the most is the whole fixed scheme."""
        per_attempt = 1 + self.evaluations + max(self.corrections_of_wrong, self.corrections_of_right)
        prompts = self.turns.attempt, self.turns.evaluation, self.turns.correction
        chars = [sum(len(m.content) for m in p.messages) + len(record.problem) for p in prompts]
        least = self.attempts if self.scheme == "fixed" else min(self.attempts_per_round, self.attempts)
        return Estimate(
            completions_min=least,
            completions_max=self.attempts * per_attempt,
            prompt_tokens=sum(chars) // len(chars) // 4,
            completion_tokens=max(p.sampling.max_tokens for p in prompts),
            rows_max=1,
            completions_expected=None if self.scheme == "fixed" else self.expected,
        )

    @cached_property
    def expected(self) -> float:
        """The mean number of completions of an adaptive search, over problems drawn from the prior."""
        draw, prior = random.Random(0), Beta(self.prior.a, self.prior.b)
        return sum(completions(Choices(self), prior, draw) for _ in range(PROBLEMS)) / PROBLEMS


class Choices:
    """The samples of one problem, and what is to be drawn next."""

    def __init__(self, options: Explore) -> None:
        self.options = options
        self.bases: list[Base] = []
        self.texts: dict[str, int] = {}
        self.refused: dict[int, tuple[Step, RowRejected]] = {}
        """The attempts that a request about was refused, with what it was for."""

    def moves(self) -> Generator[int | list[tuple[int, Step]], None, Literal["wanted", "budget", "hopeless"]]:
        """What to draw next, each time: so many attempts, or steps for attempts; at last why it ends."""
        options = self.options
        while goals := missing(assign(self.bases, options.want), options.want):
            rates = Rates.of(self.bases, Beta(options.prior.a, options.prior.b))
            if steps := self.steps(goals, rates):
                yield steps
                continue
            left = options.attempts - len(self.bases)
            if left <= 0:
                return "budget"
            if self.bases and self.hope(goals, rates, min(left, options.lookahead)) < options.min_chance:
                return "hopeless"
            yield min(left, options.attempts_per_round)
        return "wanted"

    def count(self, index: int, step: Step) -> int:
        """One more evaluation or correction of an attempt; with ``unbiased`` all that it may have."""
        options, base = self.options, self.bases[index]
        if not options.unbiased:
            return 1
        if step == "evaluate":
            return options.evaluations - len(base.evaluations)
        return options.corrections(attempt_right(base) is True) - len(base.corrections)

    def workable(self) -> list[Base]:
        """Attempts that can serve a goal: decided, the first of their text, and not refused since."""
        return [
            b
            for b in self.bases
            if attempt_right(b) is not None
            and self.texts[text_of(b.attempt.completion)] == b.index
            and b.index not in self.refused
        ]

    def steps(self, goals: Iterable[GoalName], rates: Rates) -> list[tuple[int, Step]]:
        """For each missing goal the likeliest attempt and the step it needs next; an attempt appears once.

        An attempt whose chance for the goal is below ``min_chance`` is given up.
        """
        served = assign(self.bases, self.options.want)
        taken = {i for i, names in served.items() if any(GOALS[n].exclusive for n in names)}
        chosen: dict[int, Step] = {}
        for name in goals:
            goal = GOALS[name]
            open_bases = [
                b
                for b in self.workable()
                if attempt_right(b) is goal.right
                and not met(goal, b)
                and not (goal.exclusive and b.index in taken)
            ]
            chances = [(self.options.chance(name, b, rates), -b.index) for b in open_bases]
            likely = [(c, place) for c, place in chances if c > 0 and c >= self.options.min_chance]
            # In the order drawn, or the likeliest first.
            likely.sort(key=lambda pair: pair[1:] if self.options.unbiased else pair, reverse=True)
            # With no limit on a goal every attempt that may still serve it is worked in this round.
            many = self.options.want.limit(name) is None
            for _, negative in likely[: None if many else 1]:
                base = self.bases[-negative]
                chosen.setdefault(-negative, "evaluate" if goal.says - says(base) else "correct")
        return list(chosen.items())

    def hope(self, goals: Iterable[GoalName], rates: Rates, attempts: int) -> float:
        """The best chance, over the missing goals, that the next attempts bring one more of it."""
        return max(
            rates.attempt(GOALS[g].right, attempts) * self.options.chance(g, None, rates) for g in goals
        )


class Search(Choices):
    """The search for one problem over an engine."""

    def __init__(self, options: Explore, problem: Problem, answer: str, context: Context) -> None:
        super().__init__(options)
        self.problem = problem
        self.row = RowValues(problem)
        self.answer = answer
        self.context = context

    async def fixed(self) -> Literal["budget"]:
        """The paper's scheme; every count is drawn in full."""
        await self.draw_attempts(self.options.attempts)
        await asyncio.gather(*(self.evaluate(b.index, self.options.evaluations) for b in self.workable()))
        await asyncio.gather(
            *(
                self.correct(base.index, self.options.corrections(truth is True))
                for base in self.workable()
                if (truth := attempt_right(base)) in says(base) and False in says(base)
            )
        )
        return "budget"

    async def adaptive(self) -> Literal["wanted", "budget", "hopeless"]:
        """Draw what helps a goal that is still missing, until none is or none is likely to come."""
        moves = self.moves()
        while True:
            try:
                move = next(moves)
            except StopIteration as end:
                stopped: Literal["wanted", "budget", "hopeless"] = end.value
                return stopped
            if isinstance(move, int):
                await self.draw_attempts(move)
            else:
                await asyncio.gather(*(self.take(i, step) for i, step in move))

    async def take(self, index: int, step: Step) -> None:
        """Draw them."""
        count = self.count(index, step)
        await (self.evaluate(index, count) if step == "evaluate" else self.correct(index, count))

    def measure_shift(self) -> None:
        """Measure how long the attempts are that trajectories keep, beside the first that were drawn.

        The order of sampling may keep other attempts than the policy writes (docs/self-correction.md). What
        it writes are, for each goal of a problem, as many of the first attempts that could serve it.
        """
        served = assign(self.bases, self.options.want)
        for name, goal in GOALS.items():
            kept = [self.bases[i] for i, names in served.items() if goal.exclusive and name in names]
            alike = [b for b in self.workable() if attempt_right(b) is goal.right]
            which = "right" if goal.right else "wrong"
            for own, drawn in zip(kept, alike, strict=False):
                own_tokens, drawn_tokens = (b.attempt.completion.completion_tokens for b in (own, drawn))
                self.context.measure(f"tokens of an attempt that {name} keeps", own_tokens)
                self.context.measure(
                    f"tokens of the first {which} attempts where {name} keeps one", drawn_tokens
                )

    def rejections(self) -> list[Rejection]:
        """The refusals, as they are reported."""
        return [
            Rejection(
                f"{self.problem.id}/{index}", error.reason, f"to {step} attempt {index}: {error.message}"
            )
            for index, (step, error) in sorted(self.refused.items())
        ]

    async def draw_attempts(self, count: int) -> None:
        """``count`` more attempts, verified."""
        first = len(self.bases)
        request = self.options.turns.attempt.request(self.context.seed_for(self.problem.id), self.row)
        drawn = await self.sample(request, first, count)
        verdicts = await asyncio.gather(*(self.judge(c) for c in drawn))
        for index, (completion, verdict) in enumerate(zip(drawn, verdicts, strict=True), first):
            self.texts.setdefault(text_of(completion), index)
            self.bases.append(Base(index, Judged(completion, verdict, self.is_sound(completion))))

    async def evaluate(self, index: int, count: int) -> None:
        """``count`` more self-evaluations of an attempt."""
        base = self.bases[index]
        request = self.options.turns.evaluation.request(
            self.context.seed_for(self.problem.id, 1 + 2 * index),
            self.row,
            self.thought(attempt=base.attempt.completion.reasoning),
            attempt=text_of(base.attempt.completion),
            answer=base.attempt.verdict.extracted or "",
        )
        drawn = await self.work("evaluate", index, request, len(base.evaluations), count)
        read = [self.options.reader.read(c.text) if c.finished else None for c in drawn]
        new = tuple(
            Evaluation(c, r[0] if r else None, self.is_sound_check(c, base))
            for c, r in zip(drawn, read, strict=True)
        )
        self.bases[index] = replace(base, evaluations=base.evaluations + new)

    async def correct(self, index: int, count: int) -> None:
        """``count`` more corrections of an attempt, continuing the first evaluation that said "wrong"."""
        base = self.bases[index]
        found = evaluation_of(base, False, self.options.reader)
        if found is None:
            raise ValueError(f"attempt {index} has no evaluation that says 'wrong' to continue")
        request = self.options.turns.correction.request(
            self.context.seed_for(self.problem.id, 2 + 2 * index),
            self.row,
            self.thought(attempt=base.attempt.completion.reasoning, evaluation=found.reasoning),
            attempt=text_of(base.attempt.completion),
            answer=base.attempt.verdict.extracted or "",
            evaluation=found.text,
        )
        drawn = await self.work("correct", index, request, len(base.corrections), count)
        verdicts = await asyncio.gather(*(self.judge(c) for c in drawn))
        new = tuple(Judged(c, v, self.is_sound(c)) for c, v in zip(drawn, verdicts, strict=True))
        self.bases[index] = replace(base, corrections=base.corrections + new)

    def thought(self, **reasoning: str) -> dict[str, str]:
        """What is sent along of the reasoning of earlier turns, by the place that a turn stands for."""
        return reasoning if self.options.keep_reasoning else {}

    async def work(
        self, step: Step, index: int, request: Request, first: int, count: int
    ) -> list[Completion]:
        """Completions about an attempt; none if they are refused, which ends the work on this attempt."""
        try:
            return await self.sample(request, first, count)
        except RowRejected as error:
            self.refused[index] = step, error
            return []

    async def sample(self, request: Request, first: int, count: int) -> list[Completion]:
        """Completions whose text begins with the prompt's prefix, which the engine does not repeat."""
        if count == 0:
            return []
        drawn = await self.context.engine.generate(request, first=first, n=count)
        return [replace(c, text=request.prefix + c.text) for c in drawn] if request.prefix else drawn

    def is_sound(self, completion: Completion) -> bool:
        """Whether the arithmetic of a text may be imitated."""
        options = self.options
        return not options.sound_arithmetic or sound(completion.text, at_least=options.statements)

    def is_sound_check(self, completion: Completion, base: Base) -> bool:
        """Whether a self-evaluation may be imitated where its verdict fits."""
        holds = self.options.check_holds.right if attempt_right(base) else self.options.check_holds.wrong
        wanted = fill(holds, reference=self.answer, answer=base.attempt.verdict.extracted or "")
        return wanted in completion.text and self.is_sound(completion)

    async def judge(self, completion: Completion) -> Verdict:
        """The verifier's verdict."""
        return await self.context.judge(completion, self.answer)


def text_of(completion: Completion) -> str:
    """A completion's text as it is in later prompts and in exported data."""
    return completion.text.strip()


def evaluation_of(base: Base, said: bool, marker: Marker) -> Said | None:
    """The first usable evaluation of this verdict, cut at its marker, which is then written in full."""
    truth = attempt_right(base)
    for evaluation in base.evaluations:
        if usable(evaluation, truth) is said:
            read = marker.read(evaluation.completion.text)
            if read:
                return Said(read[1].strip(), evaluation.completion.reasoning)
    return None


def said_in(completion: Completion) -> Said:
    """A completion as it is in exported data."""
    return Said(text_of(completion), completion.reasoning)
