"""The card of a data set, README.md: what a stranger has to know before training on the rows.

What a model or a file says is in it as code alone (``markup``), so that it can become neither markup nor a
link. The head is what ``huggingface_hub`` checks and ``datasets`` reads its configurations from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gristmill.core.money import shown_usd
from gristmill.pipelines.publishing.citations import contamination_recall
from gristmill.pipelines.publishing.drawing import drawn
from gristmill.pipelines.publishing.facts import RunFacts, total
from gristmill.pipelines.publishing.manifest import Manifest
from gristmill.pipelines.publishing.markup import bars, code, fenced, plain, table
from gristmill.pipelines.publishing.measures import TableMeasures
from gristmill.pipelines.publishing.tables import PushTable
from gristmill.pipelines.rundir.summary import StageCounts

CARD = "README.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_REASONS = 12


def card(
    facts: RunFacts, manifest: Manifest, tables: Sequence[PushTable], measures: Mapping[str, TableMeasures]
) -> bytes:
    """The card's bytes. ``measures`` are of the tables, by configuration."""
    parts = [
        f"# {plain(facts.title)}",
        plain(facts.about),
        *_contents(facts, manifest),
        *_loading(facts, manifest),
        *_looks(measures),
        *_making(facts),
        *_funnel(facts),
        *_verdicts(facts, measures),
        *_lengths(measures),
        *_purity(facts, measures),
        *_cost(facts),
        *_limits(facts),
        *_training(tables),
        *_licence(facts),
        *_citing(facts),
        *_provenance(facts),
    ]
    return (_head(facts, manifest) + "\n\n".join(parts) + "\n").encode()


def _head(facts: RunFacts, manifest: Manifest) -> str:
    """The YAML at the top, as the Hub's own class writes it."""
    from huggingface_hub import DatasetCardData

    rows = sum(sum(splits.values()) for splits in manifest.configs.values())
    size = next((name for most, name in _SIZES if rows < most), "n>1M")
    configs = [
        {
            "config_name": config,
            **({"default": True} if at == 0 else {}),
            "data_files": [{"split": s, "path": f"data/{config}/{s}-*.parquet"} for s in splits],
        }
        for at, (config, splits) in enumerate(manifest.configs.items())
    ]
    found = DatasetCardData(
        pretty_name=facts.title,
        license=facts.card.licence or None,
        language=facts.card.languages or None,
        tags=facts.tags,
        size_categories=[size],
        configs=configs,
    )
    return f"---\n{found.to_yaml()}\n---\n\n"


def _contents(facts: RunFacts, manifest: Manifest) -> Iterator[str]:
    yield "## Contents"
    last = manifest.pushes[-1] if manifest.pushes else None
    rows = [
        (
            code(config),
            code(split),
            f"{count:,}",
            f"{sum(f.rows for p, f in last.files.items() if (f.config, f.split) == (config, split)):,}"
            if last
            else "0",
        )
        for config, splits in manifest.configs.items()
        for split, count in splits.items()
    ]
    if len(manifest.pushes) > 1:
        yield table(("configuration", "split", "rows", "of the last push"), rows)
        pushes = [(f"{n}. {code(p.of)}", f"{p.rows:,}") for n, p in enumerate(manifest.pushes, 1)]
        yield "Pushed one after the other. What follows is of the last; the card of each is at its own tag."
        yield table(("push", "rows"), pushes)
    else:
        yield table(("configuration", "split", "rows"), [row[:3] for row in rows])


def _loading(facts: RunFacts, manifest: Manifest) -> Iterator[str]:
    config, splits = next(iter(manifest.configs.items()))
    split = next(iter(splits))
    yield "## Load it"
    yield fenced(
        "from datasets import load_dataset\n\n"
        f"rows = load_dataset({facts.repo!r}, {config!r}, split={split!r})",
        "python",
    )


def _looks(measures: Mapping[str, TableMeasures]) -> Iterator[str]:
    yield "## What a row looks like"
    for config, found in measures.items():
        yield f"The first row of {code(config)}; long texts are cut:"
        yield fenced(found.example, "json")


def _making(facts: RunFacts) -> Iterator[str]:
    if facts.summary is None:
        return
    yield "## How it was made"
    yield f"{plain(facts.made_by)} Seed {facts.summary.seed}, Gristmill {plain(facts.summary.gristmill)}."
    yield fenced(drawn(facts.recipe, facts.summary))
    if facts.models:
        yield table(("engine", "kind", "model"), list(_engines(facts)))
    yield "The whole recipe, with every prompt:"
    yield "<details><summary>recipe</summary>"
    yield fenced(facts.recipe_text, "yaml")
    yield "</details>"


def _engines(facts: RunFacts) -> Iterator[tuple[str, str, str]]:
    assert facts.summary is not None
    for name, options in facts.engines.items():
        model = facts.summary.model if name == "engine" else facts.summary.models.get(name, "")
        if model:
            yield code(name), code(str(options.get("kind", ""))), code(model)


def _funnel(facts: RunFacts) -> Iterator[str]:
    if facts.summary is None:
        return
    yield "## From the source to these rows"
    stages = facts.summary.stages
    yield table(
        ("stage", "rows in", "rows out", "rejected"),
        [
            (code(s.name), f"{s.rows_in:,}", f"{s.rows_out:,}", f"{sum(s.rejected.values()):,}")
            for s in stages
        ],
    )
    reasons = sorted(
        ((n, s.name, why) for s in stages for why, n in s.rejected.items()), key=lambda r: (-r[0], r[1], r[2])
    )
    if reasons:
        yield "Why rows were rejected, the commonest reasons first:"
        yield table(
            ("stage", "reason", "rows"),
            [(code(stage), code(why), f"{n:,}") for n, stage, why in reasons[:_REASONS]],
        )
    if len(reasons) > _REASONS:
        rest = sum(n for n, _, _ in reasons[_REASONS:])
        yield f"{len(reasons) - _REASONS} further reasons took {rest:,} rows."
    notes = [(e, why, n) for e, found in facts.summary.notes.items() for why, n in found.items()]
    if notes:
        yield "What the formats could not hold:"
        yield table(("format", "what", "records"), [(code(e), code(why), f"{n:,}") for e, why, n in notes])


def _verdicts(facts: RunFacts, measures: Mapping[str, TableMeasures]) -> Iterator[str]:
    if facts.summary is None:
        return
    verdicts = total(stage.verdicts for stage in facts.summary.stages)
    if verdicts:
        yield "## Verdicts"
        yield (
            "All verdicts of the run, those on rejected answers included. Those that are neither `correct` "
            "nor `incorrect` were not decided."
        )
        yield table(("verdict", "answers"), [(code(v), f"{n:,}") for v, n in sorted(verdicts.items())])
        undecided = total(stage.undecided for stage in facts.summary.stages)
        if undecided:
            yield table(("why not decided", "answers"), [(code(w), f"{n:,}") for w, n in undecided.items()])
    for config, found in measures.items():
        if found.pass_rates:
            yield f"Pass rates of the problems behind {code(config)} (stage {code(found.rated_at)}):"
            yield bars(found.pass_rates)


def _lengths(measures: Mapping[str, TableMeasures]) -> Iterator[str]:
    yield "## Lengths"
    for config, found in measures.items():
        yield f"Characters of the rows of {code(config)}, keys and marks not counted:"
        yield bars(found.lengths)


def _purity(facts: RunFacts, measures: Mapping[str, TableMeasures]) -> Iterator[str]:
    yield "## Duplicates and contamination"
    yield table(
        ("configuration", "rows", "exact duplicates"),
        [(code(c), f"{m.rows:,}", "not counted" if m.duplicates is None else f"{m.duplicates:,}")
         for c, m in measures.items()],
    )  # fmt: skip
    if facts.summary is None:
        return
    by_kind: dict[str, list[tuple[Mapping[str, Any], StageCounts]]] = {}
    for entry, counts in _stages(facts):
        by_kind.setdefault(str(entry.get("stage")), []).append((entry, counts))
    for _, counts in by_kind.get("dedupe", []):
        taken = sum(counts.rejected.values())
        yield f"{code(counts.name)} took {taken:,} duplicates and near-duplicates out."
    for entry, counts in by_kind.get("decontaminate", []):
        compared = ", ".join(code(str(name)) for name in entry.get("references") or ())
        yield (
            f"{code(counts.name)} compared the rows with {compared or 'benchmarks'} and took "
            f"{sum(counts.rejected.values()):,} out. What it is known to find of planted rows "
            "(shares with 95 % intervals, from Gristmill's own measurement on GSM8K and MATH-500):"
        )
        yield table(("planted", "rows", "found"), [(plain(k), n, s) for k, n, s in contamination_recall()])
    if "decontaminate" not in by_kind:
        yield "**The rows were not compared with any benchmark.** Do so before you report a score of one."


def _stages(facts: RunFacts) -> Iterator[tuple[Mapping[str, Any], StageCounts]]:
    assert facts.summary is not None
    counts = {stage.name: stage for stage in facts.summary.stages}
    for entry in facts.recipe.get("stages") or ():
        name = str(entry.get("as") or entry.get("stage"))
        if name in counts:
            yield entry, counts[name]


def _cost(facts: RunFacts) -> Iterator[str]:
    if facts.summary is None or not facts.models:
        return
    yield "## Cost"
    spent = facts.summary.total
    used = [s for s in facts.summary.stages if s.completions]
    usd = "not known (the recipe has no prices)" if spent.usd is None else shown_usd(spent.usd)
    yield (
        f"{spent.requests:,} requests were sent, {spent.tokens_in:,} tokens in and {spent.tokens_out:,} out; "
        f"{spent.from_log:,} completions came from the log of earlier runs. Price: {usd}."
    )
    if used:
        yield table(
            ("stage", "completions", "tokens in", "tokens out"),
            [(code(s.name), f"{s.completions:,}", f"{s.tokens_in:,}", f"{s.tokens_out:,}") for s in used],
        )


def _limits(facts: RunFacts) -> Iterator[str]:
    yield "## Limits"
    if facts.card.uses:
        yield plain(facts.card.uses)
    told = facts.limits or ["Nothing is recorded of how these rows were made."]
    yield "\n".join(f"- {plain(limit)}" for limit in told)
    if facts.card.personal_information:
        yield plain(facts.card.personal_information)


def _training(tables: Sequence[PushTable]) -> Iterator[str]:
    from pathlib import Path

    from gristmill.pipelines.exports.configs import FAMILIES, config_text

    found = [t for t in tables if t.export is not None and t.export.trainer]
    if not found:
        return
    yield "## Train on it"
    yield (
        "The settings without which the trainer would read the rows wrongly; the place of the shards goes "
        "where the file is named:"
    )
    for one in found:
        export = one.export
        assert export is not None
        family = FAMILIES[export.trainer]
        option = family.option.replace("{config}", "config.yaml")
        text = config_text(export, Path(f"{one.config}.parquet"))
        yield f"{code(one.config)}, {plain(export.trainer)} (`{export.command} {option}`):"
        yield fenced(text, "text" if family.flags else "yaml")


def _licence(facts: RunFacts) -> Iterator[str]:
    yield "## Licences and terms"
    own = code(facts.card.licence) if facts.card.licence else "not recorded"
    rows = [("these rows", own)]
    for model in facts.models:
        terms = facts.card.model_licences.get(model, "")
        rows.append((f"model {code(model)}", plain(terms) if terms else "not recorded"))
    for source in facts.sources:
        name, _, place = source.partition(": ")
        terms = facts.card.source_licences.get(name, "")
        rows.append((f"{code(name)}: {code(place)}", plain(terms) if terms else "not recorded"))
    yield table(("of", "terms"), rows)
    if any(terms == "not recorded" for _, terms in rows):
        yield "What is not recorded has to be found out before the rows are used."


def _citing(facts: RunFacts) -> Iterator[str]:
    if not facts.papers:
        return
    yield "## Papers behind the stages"
    yield table(
        ("paper", "followed by"), [(plain(p.title), ", ".join(map(code, p.parts))) for p in facts.papers]
    )
    yield "By their numbers; the pages that they lead to have the authors."
    yield fenced("\n\n".join(paper.bibtex for paper in facts.papers), "bibtex")


def _provenance(facts: RunFacts) -> Iterator[str]:
    yield "## Where a row is from"
    yield (
        "`pushes.json` has every file with its hash, `croissant.json` describes the columns for machines."
        + (
            f" With the run at hand, `gristmill trace {facts.summary.name} ID` shows the problem, every "
            "request and completion, and the verdicts behind the row with that `id`."
            if facts.summary is not None
            else ""
        )
    )
