"""The rows of a run as the file that a kind of training reads."""

from __future__ import annotations

import shlex
from pathlib import Path

from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.schema import needed
from gristmill.pipelines.exports.writing import write
from gristmill.pipelines.recipe.recipe import make_export
from gristmill.pipelines.rundir.directory import run_and_stage
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.train.base.data import FORMS, RowForm, taken_by


def training_file(what: str, trainer: str, out: Path, *, runs: Path = Path("runs")) -> Path:
    """The file with the rows of ``what``, a JSON lines file or a run as NAME or NAME:STAGE.

    A file is given back as it is. Of a run, the last stage that has rows of a form that ``trainer`` takes
    (or the stage that is named) is written to ``data.jsonl`` in the folder ``out``. Raises ``RunError``
    where there is no run, ``RecipeError`` where its rows are for another kind of training.
    """
    if Path(what).is_file() or Path(what).suffix in (".jsonl", ".json"):
        return Path(what)
    place, stage = run_and_stage(what, runs)
    run = open_run(place)
    if stage:
        run.folder(stage)  # raises where there is none
    chosen, form = _chosen(run, stage, trainer)
    file = out / "data.jsonl"
    if not write(_export(form), part_files(run.folder(chosen)), file):
        raise RecipeError(
            f"{run.path}:{chosen} gives no row as {form.export}.",
            remedy=f"See why with: gristmill export {shlex.quote(str(run.path))} --from {chosen} "
            f"--format {form.export}",
        )
    return file


def _chosen(run: Run, stage: str, trainer: str) -> tuple[str, RowForm]:
    """The stage to train on and the form of its rows."""
    for name in [stage] if stage else reversed(run.stages):
        for form in taken_by(trainer):
            if _fits(run, name, form):
                return name, form
    where = f"{run.path}:{stage}" if stage else f"{run.path}"
    others = {form.name: form for name in run.stages for form in FORMS if _fits(run, name, form)}
    wanted = " or ".join(form.name for form in taken_by(trainer))
    if not others:
        raise RecipeError(
            f"{where} has no rows that a training takes; {trainer} takes {wanted}.",
            remedy=f"Its stages are: {', '.join(run.stages)}.",
        )
    kinds = sorted({kind for form in others.values() for kind in form.trainers})
    raise RecipeError(
        f"{where} has {', '.join(others)}, and {trainer} takes {wanted}.",
        remedy=" or ".join(f"'gristmill train {kind.replace('_', '-')}'" for kind in kinds) + " takes them.",
    )


def _fits(run: Run, stage: str, form: RowForm) -> bool:
    reads = set(needed(_export(form).reads))
    return reads <= set(run.rows(stage).collect_schema().names())


def _export(form: RowForm) -> Export:
    return make_export(form.export, form.options)
