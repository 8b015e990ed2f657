"""Self-correction measured: one attempt, self-evaluation and correction for each problem of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from gristmill.core.errors import GristmillError
from gristmill.core.records import Exploration
from gristmill.core.schema import from_frame
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.running import runner
from gristmill.synth.self_correction import CorrectionMetrics, Explore, Trial, measure
from gristmill.synth.self_correction.trial import triple

_TRIAL = "self_correction_trial"
_MEANING = {
    "problems": "problems measured",
    "turn1": "first answer right",
    "final": "last answer right",
    "delta": "final - turn1 = i_to_c - c_to_i",
    "i_to_c": "wrong answers made right",
    "c_to_i": "right answers made wrong",
    "p_c_to_i": "final wrong, given first right and judged wrong",
    "rm_right": "right first answers judged correct",
    "rm_wrong": "wrong first answers judged wrong",
    "no_verdict": "self-evaluations without a readable verdict",
}


def evaluate_self_correction(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    runs: str | Path = "runs",
    log: str | Path | None = None,
    sampled: bool = False,
) -> CorrectionMetrics:
    """Run one trial per problem in ``runs/NAME-eval`` and measure them.

    Style, prompts and marker are those of the recipe's ``explore_self_correction`` stage, or the default
    ones where it has none. Problems that were rejected (no answer, a failed request) are not counted.
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    found = runner.run(trial_of(recipe, sampled=sampled), limit=limit, runs=runs, log=log, resume=True)
    if not found.stages:
        raise GristmillError(
            f"no problem of {recipe.name} could be tried.",
            remedy=f"See why with: gristmill show {found.path} --rejected --stage {_TRIAL}",
        )
    trials = from_frame(found.rows(_TRIAL).collect(), Exploration)
    return measure(triple(t) for t in trials)


def trial_of(recipe: Recipe, *, sampled: bool) -> Recipe:
    """The recipe with one trial per problem in place of its stages."""
    explore = next((e.stage for e in recipe.stages if isinstance(e.stage, Explore)), Explore())
    trial = Trial(
        style=explore.style,
        prompts=explore.prompts,
        marker=explore.marker,
        temperature=None if sampled else 0.0,
    )
    described = recipes.to_dict(recipe)
    described["name"] = f"{recipe.name}-eval"
    described["stages"] = [{"stage": _TRIAL, **msgspec.to_builtins(trial)}]
    described["exports"] = []
    described.pop("engines", None)  # the trial asks the main one alone
    return recipes.from_dict(described)


def table(metrics: CorrectionMetrics) -> str:
    """The metrics, a line each; a share that nothing falls under is shown as a dash."""
    lines = []
    for name, meaning in _MEANING.items():
        value = getattr(metrics, name)
        shown = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
        lines.append(f"{name:<12}{shown:>8}  {meaning}")
    return "\n".join(lines)
