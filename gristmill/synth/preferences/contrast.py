"""``contrast_prompts``: a prompt changed a little so that it asks for something else, and the answers to
both as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import RowValues, opening, require_row, row_places, within
from gristmill.core.records import Pair, Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.preferences.better import Preferring, first_drawn, likeness, side, told, written
from gristmill.synth.sampling import Sample

_CHANGE = (
    "{problem}\n\nChange this request in as few words as possible, so that it asks for something else and a "
    "good answer to it would no longer be a good answer to the changed one. Keep all other words as they "
    "are. Write the changed request and nothing else."
)
_CALL = 22
Share = Annotated[float, Meta(ge=0, le=1)]


class ContrastPrompts(Preferring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contrast Instructions (arXiv 2309.16155): has a model change a prompt a little so that it asks for
    something else, draws an answer to each, and prefers the answer to a prompt over the answer to its
    contrast.

    The paper finds its prompts in data sets; that a model writes them is this project's own, and so each is
    checked: the texts must be alike, and for the prompt (with a judge or a scorer without references: for
    both) its own answer must be found better than the other one. Otherwise the change asks for the same, or
    one of the answers is bad, and the problem is rejected.

    ``meta`` has ``contrast``, the id that both pairs of a problem share, ``contrast_side`` (``original`` or
    ``changed``), and the other prompt as ``contrast_prompt``. ``prompt_consistency`` reads these.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Pair

    change: str = _CHANGE
    """The prompt that asks for the changed one, with ``{problem}`` and places for any column."""
    examples: tuple[Message, ...] = ()
    """Worked examples of such changes, user and assistant turns, sent as they are before the prompt; small
    models need some."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How the changed prompt is sampled."""
    least: Share = 0.6
    """The least likeness of the two prompts, 0 to 1 (rapidfuzz's ratio)."""
    most: Share = 0.99
    """The greatest likeness; prompts that differ in nothing but case and punctuation are rejected anyway."""
    sample: Sample = Sample()
    """The options of the stage ``sample``, which draws the answers to both prompts; the first finished one
    counts."""
    sides: Literal["both", "original"] | None = None
    """Whether both prompts must have the better answer, and each gives a pair, or the original alone. The
    changed prompt has no reference. ``null``: ``original`` where the recipe's verifier decides, else
    ``both``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_row("contrast_prompts", "change", self.places["change"])
        if self.sides == "both" and self.verifies:
            raise RecipeError(
                "contrast_prompts: sides: both, but the verifier has no reference for the changed prompt.",
                remedy="Give a judge or a scorer that needs no reference, or set sides: original.",
            )
        if self.least > self.most:
            raise RecipeError(
                f"contrast_prompts: least is {self.least:g}, more than most, {self.most:g}.",
                remedy="Let 'least' be the smaller one.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        own = {**row_places(change=self.change), **within("sample", self.sample.places)}
        return {**super().places, **own}

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and that judge."""
        further = dict(super().uses)
        return further | {
            name: further.get(name, frozenset()) | needed for name, needed in self.sample.uses.items()
        }

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Pair | Rejection]:
        """One pair or two, or a rejection."""
        asked = opening(RowValues(problem), self.change, None, self.examples)
        new = await written(
            context.engine, asked, self.sampling, context.seed_for(problem.id, _CALL), "contrast"
        )
        alike = likeness(problem.problem, new.text)
        if alike == 1 or alike > self.most:
            return [Rejection(problem.id, "contrast: the prompt is the same", new.text[:200])]
        if alike < self.least:
            detail = f"likeness {alike:.2f}: {new.text[:200]}"
            return [Rejection(problem.id, "contrast: the prompts are not alike", detail)]
        changed = replace(problem, id=f"{problem.id}/contrast", problem=new.text, answer=None)
        own, other = [await first_drawn(self.sample, p, context, "contrast") for p in (problem, changed)]
        if own.completion.strip() == other.completion.strip():
            return [Rejection(problem.id, "contrast: both answers are the same", own.completion[:200])]
        made = [await self._one(problem, own, other, "original", changed.problem, context)]
        if self.sides == "both" or (self.sides is None and not self.verifies):
            made.append(await self._one(changed, other, own, "changed", problem.problem, context))
        failed = [one for one in made if isinstance(one, Rejection)]
        return [replace(failed[0], id=problem.id)] if failed else made

    async def _one(
        self, problem: Problem, own: Sampled, other: Sampled, which: str, contrast: str, context: Context
    ) -> Pair | Rejection:
        """The pair of one prompt: the answer to it against the answer to the other."""
        family = problem.id.removesuffix("/contrast") if which == "changed" else problem.id
        pair = Pair(
            f"{family}/contrast/{which}",
            family,
            "contrast",
            own.messages,
            (Message("assistant", own.completion, own.reasoning),),
            (Message("assistant", other.completion, other.reasoning),),
            meta=told(problem.meta, contrast=family, contrast_side=which, contrast_prompt=contrast),
        )
        row = RowValues(problem)
        sides = (
            side(problem, own.messages, own.completion, row, "own"),
            side(problem, own.messages, other.completion, row, "other"),
        )
        return await self.pair(pair, sides, problem, context)

    def estimate(self, problem: Problem) -> Estimate | None:
        """The changed prompt, the answers to both, and two comparisons."""
        drawn = self.sample.estimate(problem)
        if not drawn.rows_max:
            return drawn
        tokens = max(self.sampling.max_tokens, drawn.completion_tokens)
        answered = side(problem, (), "", RowValues(problem), "own")
        cost = self.cost(answered, 1 + 2 * drawn.completions_max, 2, tokens, 2)
        return cost and replace(cost, prompt_tokens=max(cost.prompt_tokens, drawn.prompt_tokens))
