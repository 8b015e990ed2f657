"""What an exploration draws: the options of ``explore_self_correction``, and what follows from them."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gristmill.core.errors import RecipeError
from gristmill.core.prompts import require, require_row, within
from gristmill.core.records import Base, Style
from gristmill.core.stages import RowStage
from gristmill.synth.self_correction.goals import (
    GOALS,
    Beta,
    Count,
    GoalName,
    Rates,
    Want,
    outcomes,
    says,
)
from gristmill.synth.self_correction.prompts import (
    Marker,
    PromptOverrides,
    Prompts,
    marker_of,
    prompts_of,
)

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


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


class Scheme(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The options of ``explore_self_correction``, which ``explore.Explore`` follows."""

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
