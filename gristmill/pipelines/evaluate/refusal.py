"""``gristmill eval refusal``: what models answer, what they decline, and how far their confidence holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import GristmillError, RecipeError, RowRejected
from gristmill.core.knowledge import Certainty, Response
from gristmill.core.prompts import fields
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.entries import EngineEntry
from gristmill.pipelines.recipe.graph import Graph, Placed
from gristmill.pipelines.recipe.plain import convert
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import run_and_stage, run_path
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.pipelines.running import runner
from gristmill.pipelines.running.sessions import entries
from gristmill.synth.refusal import compare as comparing
from gristmill.synth.refusal.ask import AskOrRefuse
from gristmill.synth.refusal.compare import METRICS, Interval, Rule, Score, SystemsComparison
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.step_values.measures import share

MAIN = "engine"
"""How the recipe's main engine is called beside the named ones."""
EVERYTHING = "all"
"""The group of all questions."""
UNTOLD = "(not told)"
"""The group of questions that do not say their part or column."""
_STAGE = "ask_or_refuse"
_COUNTS = {
    "answered": "answered",
    "refused": "declined in words",
    "empty": "empty answers",
    "unread": "sureness not read",
    "known": "known before",
    "unknown": "not known before",
    "scored": "answers with a score",
}
_LEFT_OUT = {
    "missing": "are left out: not every system was asked them",
    "undecided": "are left out: a verdict ended in a time-out or an error",
}
Systems = Mapping[str, Sequence[Response]]


class MeasureSettings(Struct, frozen=True, kw_only=True):
    """How responses are measured; see ``synth.refusal.compare``. ``by`` is ``part`` or a column of the
    problems' ``meta``, by whose values the questions are grouped."""

    by: str = "part"
    rule: Rule = "any"
    score: Score = "combined"
    bins: int = 10
    draws: int = 1000
    seed: int = 0


class Group(Struct, frozen=True):
    """The systems on the questions of one part, or of all."""

    name: str
    comparison: SystemsComparison


class RefusalReport(Struct, frozen=True):
    """The systems on all questions, and then on each part of them."""

    settings: MeasureSettings
    groups: tuple[Group, ...]

    def encode(self) -> bytes:
        """The JSON text; keys are in one fixed order."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def evaluate(systems: Systems, settings: MeasureSettings | None = None) -> RefusalReport:
    """Measure systems, the first of which the others are compared with, on all questions and by part.

    ``RecipeError`` where they have no question in common.
    """
    settings = settings or MeasureSettings()
    rows, _ = comparing.common(systems)
    groups = [Group(EVERYTHING, _compare(systems, settings))]
    keys = [_key(together, settings.by) for together in zip(*rows.values(), strict=True)]
    for key in sorted(set(keys)) if len(set(keys)) > 1 else ():
        chosen = {
            name: [r for r, k in zip(found, keys, strict=True) if k == key] for name, found in rows.items()
        }
        groups.append(Group(key, _compare(chosen, settings)))
    return RefusalReport(settings, tuple(groups))


def _compare(systems: Systems, s: MeasureSettings) -> SystemsComparison:
    return comparing.compare(systems, rule=s.rule, score=s.score, bins=s.bins, draws=s.draws, seed=s.seed)


def _key(together: Iterable[Response], by: str) -> str:
    """The group of a question, as the first of its responses tells it."""
    for response in together:
        if by == "part" and response.part is not None:
            return response.part
        try:
            value = fields(response.meta).get(by)
        except RowRejected:  # a meta that is no JSON object tells nothing
            value = None
        if value is not None:
            return str(value)
    return UNTOLD


def run_systems(run: Run) -> dict[str, list[Response]]:
    """The responses in a run, by the stages that made them. ``RecipeError`` where there are none."""
    stages = [name for name in run.stages if _holds(run, name, Response)]
    if not stages:
        raise RecipeError(
            f"{run.path} holds no responses.",
            remedy=f"Its recipe needs the stage {_STAGE}; or give the recipe itself to measure its engine.",
        )
    return {name: [r for r in _records(run, name) if isinstance(r, Response)] for name in stages}


def evaluate_recipe(
    recipe: Recipe,
    *,
    engines: Sequence[str] = (),
    method: str = "sure",
    limit: int | None = None,
    runs: str | Path = "runs",
    log: str | Path | None = None,
) -> dict[str, list[Response]]:
    """Ask a recipe's engines its problems, in ``runs/NAME-eval``, and return the responses by system.

    A recipe with stages that write responses is run as it is, without its exports. Any other has its
    problems asked of each of ``engines`` (by name; ``engine``, the default, is the main one), by ``method``,
    in the form and with the examples of its stage ``probe_knowledge`` where it has one. ``RecipeError`` where
    two engines go by the name of one model: the completion log would give one the answers of the other.
    """
    trial = trial_of(recipe, engines=engines, method=method)
    _tell_apart(trial)
    found = runner.run(trial, limit=limit, runs=runs, log=log, resume=True)
    if not found.stages:
        raise GristmillError(
            f"no problem of {recipe.name} could be asked.",
            remedy=f"See why with: gristmill show {found.path} --rejected",
        )
    return run_systems(found)


def trial_of(recipe: Recipe, *, engines: Sequence[str] = (), method: str = "sure") -> Recipe:
    """The recipe that ``evaluate_recipe`` runs. ``RecipeError`` for engines that are not asked in it."""
    changed = replace(recipe, name=f"{recipe.name[: 64 - len('-eval')]}-eval", exports=())
    if any(node.writes is Response for node in recipe.stages):
        if engines:
            raise RecipeError(
                f"{recipe.name} says itself which engines it asks; {', '.join(engines)} cannot be given too.",
                remedy=f"Leave out --engine, or give its stages {_STAGE} an 'engine:'.",
            )
        return changed
    stage: AskOrRefuse = convert({"method": method}, AskOrRefuse, _STAGE)
    probe = next((e.stage for e in recipe.stages if isinstance(e.stage, ProbeKnowledge)), None)
    if probe is not None:
        stage = replace(stage, probe=replace(stage.probe, form=probe.form, shots=probe.shots))
    names = dict.fromkeys(engines or [MAIN])
    own = {name: None if name == MAIN else name for name in names}
    first = next(iter(recipe.sources))
    asked = [Placed(_STAGE, name, stage, [first], engine) for name, engine in own.items()]
    graph = Graph({name: source.record for name, source in recipe.sources.items()}, asked)
    graph.check_names([e.name for e in recipe.engines])
    named = tuple(e for e in recipe.engines if e.name in names)
    if MAIN not in names:  # it would be opened for nothing
        changed = replace(changed, engine_kind=named[0].kind, engine=named[0].options)
    return replace(changed, graph=graph, engines=named)


def _tell_apart(recipe: Recipe) -> None:
    """Refuse engines that are different and whose model has the same identity."""
    asked = {node.engine for node in recipe.stages if node.writes is Response}
    known: dict[str, EngineEntry] = {}
    for name, entry in entries(recipe):
        if name not in asked:
            continue
        model = entry.options.open().model
        other = known.setdefault(model, entry)
        if not other.same_as(entry):
            raise RecipeError(
                f"the engines {other.name!r} and {entry.name!r} are both the model {model!r}, so that the "
                "completion log cannot tell their answers apart.",
                remedy="Serve one of them under another model name, and set its 'model:' to that.",
            )


def certainties(run: Run, stage: str | None = None) -> dict[str, Certainty]:
    """What a run's split says of each question, by id: of ``stage``, or of the last that has it."""
    found = [stage] if stage else [name for name in run.stages if _holds(run, name, Certainty)]
    if not found or not _holds(run, found[-1], Certainty):
        raise RecipeError(
            f"{run.path} has no split of questions by certainty{f' in {stage!r}' if stage else ''}.",
            remedy="Give a run whose recipe splits by certainty, as RUN or RUN:STAGE.",
        )
    return {r.id: r for r in _records(run, found[-1]) if isinstance(r, Certainty)}


def with_known(systems: Systems, known: Mapping[str, Certainty]) -> dict[str, list[Response]]:
    """The responses with what a split says of their questions: ``known`` where it is sure of them, and the
    part. A question that the split has not, or left out, stays as it is."""

    def told(response: Response) -> Response:
        found = known.get(response.id)
        if found is None:
            return response
        sure = response.known if found.certain is None else found.certain == "sure"
        return replace(response, known=sure, part=response.part or found.part)

    return {name: [told(r) for r in responses] for name, responses in systems.items()}


def gather(
    what: Sequence[str],
    *,
    runs: Path,
    overrides: Sequence[str] = (),
    known: str | None = None,
    partial: bool = False,
    **asking: Any,
) -> dict[str, list[Response]]:
    """The systems of recipes (YAML files) and runs (names or directories), in the order given.

    A system is named after its recipe or run, or after its stage where there are several of that; an
    unfinished run is taken only if ``partial``, and its name says so.
    ``known`` is ``RUN`` or ``RUN:STAGE``, see ``certainties``; ``asking`` goes to ``evaluate_recipe``.
    """
    split = None if known is None else certainties(*_run_and_stage(known, runs))
    systems: dict[str, list[Response]] = {}
    for given in what:
        path = Path(given)
        if path.suffix in (".yaml", ".yml"):
            recipe = recipes.load(path, overrides)
            name, found = recipe.name, evaluate_recipe(recipe, runs=runs, **asking)
        else:
            run = open_run(run_path(given, runs), partial=partial)
            name, found = run.path.name, run_systems(run)
            if run.mark:
                found = {f"{stage} (PARTIAL)": responses for stage, responses in found.items()}
                name = f"{name} (PARTIAL)"
        for stage, responses in found.items():
            label = name if len(found) == 1 else stage if len(what) == 1 else f"{name}/{stage}"
            systems[label if label not in systems else f"{label} ({len(systems) + 1})"] = responses
    return systems if split is None else with_known(systems, split)


def _run_and_stage(given: str, runs: Path) -> tuple[Run, str | None]:
    place, stage = run_and_stage(given, runs)
    return open_run(place), stage or None


def _holds(run: Run, stage: str, record: type[Struct]) -> bool:
    return set(record.__struct_fields__) <= set(run.rows(stage).collect_schema().names())


def _records(run: Run, stage: str) -> Iterable[Struct]:
    kind = Response if _holds(run, stage, Response) else Certainty
    return parts.read(run.folder(stage), kind)


def table(report: RefusalReport) -> str:
    """The measures as text; intervals hold 95 %, and a share of nothing is a dash."""
    blocks = [f"{name}\n" + "\n".join(align(rows)) for name, rows in tables(report)]
    left_out = report.groups[0].comparison.left_out
    notes = [f"{count:,} questions {_LEFT_OUT[why]}." for why, count in left_out.items() if count]
    meanings = "\n".join(f"{name:<18}{meaning}" for name, meaning in METRICS.items())
    return "\n\n".join([*blocks, *notes, meanings])


def tables(report: RefusalReport) -> list[tuple[str, list[tuple[str, ...]]]]:
    """For each group a title and the cells of its table, the head first."""
    return [(_title(group), _rows(group.comparison)) for group in report.groups]


def _title(group: Group) -> str:
    return f"{printable(group.name)}: {group.comparison.questions:,} questions"


def _rows(found: SystemsComparison) -> list[tuple[str, ...]]:
    names = [printable(s.name) for s in found.systems]
    later = [f"{name} - {names[0]}" for name in names[1:]]
    rows: list[tuple[str, ...]] = [("", *names, *later)]
    for name, meaning in _COUNTS.items():
        counts = [getattr(s.measures, name) for s in found.systems]
        if any(counts):
            rows.append((meaning, *(f"{c:,}" for c in counts), *("" for _ in later)))
    for name in METRICS:
        values = [s.measures.values[name] for s in found.systems]
        if all(v is None for v in values):
            continue
        own = (_with(share(s.measures.values[name]), s.intervals[name]) for s in found.systems)
        changes = (next(c for c in found.changes[s.name] if c.metric == name) for s in found.systems[1:])
        told = (_with("-" if c.value is None else f"{c.value:+.3f}", c.interval, "+.3f") for c in changes)
        rows.append((name, *own, *told))
    return rows


def _with(value: str, interval: Interval | None, form: str = ".3f") -> str:
    return value if interval is None else f"{value} [{interval[0]:{form}}, {interval[1]:{form}}]"
