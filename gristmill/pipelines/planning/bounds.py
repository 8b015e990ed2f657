"""``plan``: what a recipe will cost, and how much of it the completion log already holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from gristmill.core.engine import Request
from gristmill.core.errors import GristmillError
from gristmill.core.money import price_of
from gristmill.core.records import Problem
from gristmill.core.stages import Estimate, Filter, Relation
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.planning.memory import WORKERS, Known, LogWalk
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.entries import Until
from gristmill.pipelines.recipe.graph import Skills
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.rows import at_most, read_sources
from gristmill.pipelines.running.runner import log_path
from gristmill.pipelines.running.sessions import Verifiers, entries, opened
from gristmill.pipelines.running.walk import Visit, Walk

_EXAMPLES = 100
"""Rows by which the cost of rows that are not known yet is judged."""
_WAITS = "waiting for rows that are not there yet"
_UNBOUNDED = "no bound: nothing limits how many rows reach it"
_UNJUDGED = "no bound: no row of its kind is there yet to judge by; 'gristmill preview' makes some"


class StagePlan(Struct):
    """What a stage will need. Completions and tokens are what remains to be paid for.

    ``rows`` are those known now, of which ``done`` need nothing more; ``open_rows`` rows of the stage
    before will bring further ones. ``rows_most`` bounds all rows that it will read, ``None`` where they have
    no bound. ``completions_expected`` is about what remains, by what the rows that are done took, or else by
    what the stage expects of rows that it knows nothing of; ``None`` where neither is known. ``usd`` bounds
    its cost in dollars, ``None`` where an engine has no price. ``known`` is false behind a filter or relation
    whose rows are not all there, ``bounded`` where there are no figures; ``note`` says what they rest on, or
    why there are none.
    """

    name: str
    rows: int = 0
    done: int = 0
    open_rows: int = 0
    in_log: int = 0
    completions_min: int = 0
    completions_max: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    known: bool = True
    bounded: bool = True
    rows_most: int | None = None
    note: str = ""
    completions_expected: int | None = 0
    usd: float | None = None

    @property
    def usd_expected(self) -> float | None:
        """The part of ``usd`` that falls to the completions that are expected."""
        if self.usd is None or self.completions_expected is None:
            return None
        return self.usd * self.completions_expected / self.completions_max if self.completions_max else 0.0


class Plan(Struct):
    """What a recipe will need, by stage. ``tokens_in`` and ``tokens_out`` are upper bounds.

    ``sources`` are the rows of each source that can be used, ``rejected`` all others; ``what`` is their name.
    ``note`` says what may end the run earlier. ``prompts`` has the first requests of stages by their names,
    as far as the log knows them, if they were asked for: the row's id and the request.
    """

    name: str
    sources: dict[str, int]
    rejected: int
    stages: list[StagePlan]
    what: str = "rows"
    note: str = ""
    prompts: dict[str, list[tuple[str, Request]]] = {}


class _Asked(NamedTuple):
    """What one call found in the log, and what remains to be paid for (``None``: nothing)."""

    found: int
    remaining: Estimate | None


def plan(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    log: str | Path | None = None,
    prompts: int = 0,
) -> Plan:
    """What ``recipe`` will need, without starting its engine or sending a request.

    With ``prompts`` also the first so many requests of each stage.

    Each row goes through its stages over the log; at the first completion that is not there, the
    stage's own estimate takes over, and what comes behind it is not known yet.
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    if limit is not None:
        recipe = msgspec.structs.replace(recipe, limit=limit)
    found = {name: (entry.kind, opened(entry)) for name, entry in entries(recipe)}
    recipe.graph.check_engine({n: Skills(kind, e.abilities) for n, (kind, e) in found.items()})
    engines = {name: engine for name, (_, engine) in found.items()}
    with CompletionLog(log_path(log)) as found_log, Verifiers(recipe) as verifiers:
        known = Known(recipe, engines, found_log, verifiers.main, verifiers.named)
        bounds = Bounds(known, read_sources(recipe, at_most(recipe)), prompts)
        in_own_loop(bounds.run())
    return bounds.plan


class Bounds(LogWalk[_Asked]):
    """The rows as far as the log has them, and bounds on what comes behind."""

    def __init__(self, known: Known, sources: Mapping[int, Iterator[Any]], prompts: int = 0) -> None:
        super().__init__(known, sources)
        self._prompts = prompts
        nodes = self.graph.nodes
        self.at = {i: StagePlan(node.name) for i, node in enumerate(nodes) if node.stage is not None}
        self.plan = Plan(
            known.recipe.name,
            dict.fromkeys(known.recipe.sources, 0),
            0,
            list(self.at.values()),
            "problems" if {nodes[i].writes for i in self.graph.sources} == {Problem} else "rows",
            _earlier(known.recipe.until),
        )
        self._out = [0] * len(nodes)  # rows that each node has put out
        self._more: list[int | None] = [0] * len(nodes)  # the most that its open rows will bring
        self._examples: dict[int, list[Any]] = {}
        self._taken = [0] * len(nodes)  # completions that the rows which are done took
        self._found = [0] * len(nodes)  # those that the log has of the others

    async def run(self) -> None:
        """Every node, in order."""
        await Walk(self.graph, self, workers=WORKERS).run()
        for i, stage in self.at.items():
            self._expect(i, stage)
            stage.usd = self._usd(i, stage)
            stage.rows_most = _sum([self._most(above) for above in self.graph.nodes[i].inputs])

    def _expect(self, node: int, stage: StagePlan) -> None:
        """By what the rows that are done took on average, if there are any: the prior has been seen past."""
        open_rows = stage.rows - stage.done
        if stage.completions_min == stage.completions_max:
            stage.completions_expected = stage.completions_max
        elif stage.done and stage.known and open_rows:
            likely = round(open_rows * self._taken[node] / stage.done) - self._found[node]
            stage.completions_expected = min(max(likely, stage.completions_min), stage.completions_max)

    def _usd(self, node: int, stage: StagePlan) -> float | None:
        """What the tokens cost at the price of the dearest engine that the stage may ask."""
        at, recipe = self.graph.nodes[node], self.known.recipe
        if not stage.tokens_in + stage.tokens_out:
            return 0.0 if recipe.prices else None
        asked = {at.engine, *getattr(at.row_stage, "uses", ())}
        prices = [price_of(recipe.prices, e.options) for name, e in entries(recipe) if name in asked]
        known = [price.usd(stage.tokens_in, stage.tokens_out) for price in prices if price is not None]
        return max(known) if known and len(known) == len(prices) else None

    def _most(self, node: int) -> int | None:
        """The most rows that a node will have put out."""
        more = self._more[node]
        return None if more is None else self._out[node] + more

    async def table(self, node: int) -> bool:
        """Run it where all its rows are there; else bound what it will give."""
        at, stage = self.graph.nodes[node], self.at[node]
        stage.rows = sum(self._out[i] for i in at.inputs)
        if all(self._more[i] == 0 for i in at.inputs):
            try:
                self.run_table(node)
            except GristmillError as error:
                stage.note = f"it will end the run: {error}"
                return self._unknown(node, 0)
            stage.done, self._out[node] = stage.rows, len(self.made[node])
            return True
        stage.note = _WAITS
        return self._unknown(node, self._bound(node))

    def _bound(self, node: int) -> int | None:
        """The most rows of a filter or relation whose inputs are not all there."""
        at = self.graph.nodes[node]
        most = [self._most(i) for i in at.inputs]
        if isinstance(at.stage, Filter):
            return most[0]
        known = [m for m in most if m is not None]
        assert isinstance(at.stage, Relation)
        return at.stage.rows_max(known) if len(known) == len(most) else None

    def _unknown(self, node: int, most: int | None) -> bool:
        """A node whose rows are not known, of which there are ``most`` at most: what may come behind it."""
        self.at[node].known = False
        self._more[node] = most
        self._examples[node] = self._some(node)
        for i in self.graph.members(node):
            above, stage = self.graph.nodes[i].inputs[0], self.at[i]
            stage.known, bound = False, self._more[above]
            self._more[i], self._examples[i] = None if bound else bound, []
            tried = [e for e in map(self._estimator(i), self._examples[above]) if e is not None]
            if bound == 0:
                continue
            if bound is None or not tried:
                stage.note, stage.bounded = _UNBOUNDED if bound is None else _UNJUDGED, False
            else:
                stage.note = f"at most {bound:,} rows, taken to cost no more each than those seen so far"
                _add(stage, _largest(tried), bound, least=False)
                per_row = [e.rows_max for e in tried]
                self._more[i] = None if None in per_row else bound * max(r for r in per_row if r is not None)
        return False

    def _some(self, node: int) -> list[Any]:
        """Rows like those of a filter or relation: what it makes of the rows that are there."""
        try:
            self.run_table(node)
        except GristmillError:  # of a part of the rows it need not be able to make anything
            return []
        return [record for record, _ in self.made[node][:_EXAMPLES]]

    def _estimator(self, node: int) -> Any:
        stage = self.graph.nodes[node].row_stage
        assert stage is not None
        return stage.estimate

    async def call(self, node: int, record: Any) -> Visit[_Asked]:
        """One record through one stage; where the log lacks something, its estimate of what remains."""
        made, meters, whole = await self.tried(node, record)
        found = sum(meter.found for meter in meters)
        name = self.graph.nodes[node].name
        shown = self.plan.prompts.setdefault(name, []) if self._prompts else []
        for request in (r for meter in meters for r in meter.asked) if len(shown) < self._prompts else ():
            if len(shown) < self._prompts and request not in [r for _, r in shown]:
                shown.append((record.id, request))
        if whole:
            return self.visit(node, made, _Asked(found, None))
        estimate = self._estimator(node)(record)
        if estimate is None:
            self.at[node].note, self.at[node].bounded = (
                "no bound: the stage does not say what a row costs",
                False,
            )
            estimate = Estimate(0, 0, 0, 0)
        least, likely = max(0, estimate.completions_min - found), estimate.completions_expected
        remaining = msgspec.structs.replace(
            estimate,
            completions_min=least,
            completions_max=max(least, estimate.completions_max - found),
            completions_expected=None if likely is None else max(least, likely - found),
        )
        return self.visit(node, [], _Asked(found, remaining))

    async def emit(self, item: Any, visits: list[Visit[_Asked]]) -> None:
        """Count what came of one row."""
        for node, made, rejected, note in visits:
            self._out[node] += len(made)
            self.keep(node, made, item[1])
            if note is None:
                if self.graph.nodes[node].stage is None:
                    self.plan.sources[self.graph.nodes[node].name] += len(made)
                    self.plan.rejected += len(rejected)
                continue
            stage = self.at[node]
            stage.rows += 1
            stage.in_log += note.found
            if note.remaining is None:
                stage.done += 1
                self._taken[node] += note.found
                continue
            self._found[node] += note.found
            _add(stage, note.remaining, 1)
            self._leave_open(node, note.remaining.rows_max)

    def _leave_open(self, node: int, most: int | None) -> None:
        more = self._more[node]
        self._more[node] = None if more is None or most is None else more + most
        for child in self.graph.children(node):
            self.at[child].open_rows += 1
            self._leave_open(child, None)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [c for c in counts if c is not None]
    return sum(known) if len(known) == len(counts) else None


def _largest(estimates: Sequence[Estimate]) -> Estimate:
    """The most of each figure."""
    fields = ("completions_min", "completions_max", "prompt_tokens", "completion_tokens")
    return Estimate(*(max(getattr(e, name) for e in estimates) for name in fields))


def _add(stage: StagePlan, estimate: Estimate, rows: int, *, least: bool = True) -> None:
    """Count what ``rows`` rows will cost; with ``least`` false they may also not come."""
    most = estimate.completions_max * rows
    stage.completions_min += estimate.completions_min * rows * least
    stage.completions_max += most
    stage.tokens_in += most * estimate.prompt_tokens
    stage.tokens_out += most * estimate.completion_tokens
    likely = estimate.completions_expected
    if likely is None and least and estimate.completions_min == estimate.completions_max:
        likely = estimate.completions_max
    known = None not in (likely, stage.completions_expected)
    stage.completions_expected = (
        round((stage.completions_expected or 0) + (likely or 0) * rows) if known else None
    )


def _earlier(until: Until | None) -> str:
    """What may end the run before the sources do."""
    if until is None:
        return ""
    ends = [f"{until.rows:,} rows of {until.stage}"] if until.rows is not None else []
    ends += [f"{until.minutes:g} minutes"] if until.minutes is not None else []
    return f"It ends earlier with {' or after '.join(ends)}." if until.rows else f"It ends after {ends[0]}."
