"""Whether a recipe may be run in a directory that another run has left, and what that changes.

Every run makes its stages anew, over the completion log. Rows that are there must not be replaced by rows of
something else unless that is asked for; so a change is refused only where it would do that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gristmill.core.errors import GristmillError, RunError
from gristmill.core.version import __version__
from gristmill.engines.openai.options import DEFAULT_ABILITIES
from gristmill.engines.options import EngineOptions
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.entries import Until
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import RECIPE, RunDir, changed_keys
from gristmill.pipelines.rundir.ledger import Ledger, last_summary, states_of

_PACING = frozenset({"limit", "rows_in_flight", "part_rows", "verifier.workers", "prices", "budget", "card"})
_PLACES = ("base_url", "api_key_env", "endpoints")
"""Options of engines that say where a model is reached. The log's key names the model and not its server."""
_WITHOUT_TOOLS = tuple(one for one in DEFAULT_ABILITIES if one != "tools")
Confirm = Callable[[str], bool]


def claim(
    rundir: RunDir,
    recipe: Recipe,
    *,
    resume: bool = False,
    fresh: bool = False,
    replace: bool = False,
    confirm: Confirm | None = None,
    say: Callable[[str], object] = bool,
) -> Ledger:
    """Refuse a directory whose rows are of another recipe; what keeps the record of those to come.

    ``resume`` and ``fresh`` take a changed recipe too. A limit that leaves fewer rows than a complete run has
    is asked for with ``confirm``, unless ``replace``; ``say`` is told which keys have changed. Raises
    ``RunError``.
    """
    resolved = recipes.to_dict(recipe)
    former = _former(rundir)
    if former is not None:
        former = _by_name(_normal(former))
        changed = changed_keys(former, _by_name(resolved), pacing(recipe))
        refused = [key for key in changed if _mixes(key, former, _finished(rundir))]
        if refused and not (resume or fresh):
            raise RunError(
                f"{rundir.path} belongs to another recipe; changed: {', '.join(refused)}.",
                remedy="Continue with the changed recipe over the completion log with --resume, pay for "
                "everything anew with --fresh, or give this run another name with --set name=NAME.",
            )
        if changed:
            say(f"{recipe.name}: continuing with changes in {', '.join(changed)}.")
    ledger = Ledger(rundir, text_of(resolved))
    if ledger.keeps_former and not replace:
        _check_limit(rundir, recipe, confirm)
    return ledger


def text_of(resolved: Mapping[str, Any]) -> bytes:
    """The text of ``recipe.yaml``: the resolved recipe, under a comment that says what ran it."""
    import yaml

    text = yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True)
    return (_versions() + text).encode("utf-8", "surrogatepass")


def pacing(recipe: Recipe) -> frozenset[str]:
    """Keys that change how fast or how far a recipe runs, and not what a row becomes."""
    engines = [("engine", recipe.engine), *((f"engines.{e.name}", e.options) for e in recipe.engines)]
    common = EngineOptions.__struct_fields__
    found = {f"{at}.{name}" for at, options in engines for name in (*common, *options.pacing)}
    until = {"until", *(f"until.{name}" for name in Until.__struct_fields__)}
    return _PACING | found | until | {f"verifiers.{name}.workers" for name in recipe.verifiers}


def _former(rundir: RunDir) -> dict[str, Any] | None:
    """The recipe that the directory's rows are of; ``None`` where there is none.

    A file without any content is what a power failure can leave of one: it is written anew.
    """
    path = rundir.path / RECIPE
    if not path.exists() or (path.is_file() and not path.read_bytes().strip(b"\0 \r\n\t")):
        return None
    return document(path)


def _normal(former: dict[str, Any]) -> dict[str, Any]:
    with suppress(GristmillError):  # one that cannot be read any more is compared as it is
        former = recipes.to_dict(recipes.from_dict(former))
    return former | {key: _grown(former[key]) for key in ("engine", "engines") if key in former}


def _grown(engines: Any) -> Any:
    """Engines with today's default in place of the one before there were tools: no stage of a run of then
    asks for them, so its rows are those of the same recipe."""
    if not isinstance(engines, dict):
        return [_grown(one) for one in engines] if isinstance(engines, list) else engines
    found = {key: _grown(value) for key, value in engines.items()}
    if found.get("abilities") == list(_WITHOUT_TOOLS):
        found["abilities"] = list(DEFAULT_ABILITIES)
    return found


def _by_name(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with its stages by their names, so that one that is put between two others changes neither."""
    stages = recipe.get("stages")
    named = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
    return recipe | {"stages": {str(s.get("as") or s.get("stage")): s for s in named}}


def _finished(rundir: RunDir) -> set[str]:
    """The sources and stages of which the directory holds all rows."""
    states = states_of(rundir.path, last_summary(rundir.path))
    return {name for name, state in states.items() if state.whole}


def _mixes(key: str, former: Mapping[str, Any], finished: set[str]) -> bool:
    """Whether a changed key would replace rows that are there by other ones.

    Not where no stage is finished; not for exports, which are written anew at the end; not for where an
    engine is reached; and not for a stage whose rows are not there yet, or an engine or verifier that is new.
    """
    first, *rest = key.split(".")
    if first == "exports" or not finished.intersection(former["stages"]):
        return False
    if first == "stages":
        return any(key == f"stages.{name}" or key.startswith(f"stages.{name}.") for name in finished)
    if first in ("engines", "verifiers", "sources") and rest and rest[0] not in former.get(first, {}):
        return False
    return not (first in ("engine", "engines") and rest and rest[-1] in _PLACES)


def _check_limit(rundir: RunDir, recipe: Recipe, confirm: Confirm | None) -> None:
    """Ask before a limit makes a complete run smaller. Raises ``RunError`` where the answer is no."""
    former = last_summary(rundir.path)
    if former is None or recipe.limit is None:
        return
    taken = max((s.rows_out for s in former.stages[: len(recipe.sources)]), default=0)
    if taken <= recipe.limit:
        return
    question = (
        f"{rundir.path} holds a complete run of {taken:,} rows; with the limit it would be replaced by one "
        f"of {recipe.limit:,}."
    )
    if confirm is None or not confirm(f"{question} Replace it?"):
        raise RunError(
            question,
            remedy="Give the smaller run a name of its own with --set name=NAME, or say --replace.",
        )


def _versions() -> str:
    """What made the run, as a comment, so that ``recipe.yaml`` can be run as it is."""
    from importlib.metadata import version

    parts = [f"{name} {version(name)}" for name in ("msgspec", "polars")]
    return f"# gristmill {__version__}, python {sys.version.split()[0]}, {', '.join(parts)}\n"
