"""The report: one page about a run in any state, a file of rows, or two of them compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gristmill.core.money import shown_usd
from gristmill.pipelines.report.plots import STYLE
from gristmill.pipelines.rundir.directory import disk_errors, write_file
from gristmill.pipelines.rundir.summary import Spent, StageCounts, Summary, closing
from gristmill.pipelines.show.document import document
from gristmill.pipelines.show.figures import agreement, figures
from gristmill.pipelines.show.picked import BYTES, ROWS, SEED, picked
from gristmill.pipelines.show.subject import StageEntry, Subject, open_subject

_SCRIPTS = ("base.js", "words.js", "tree.js", "row.js", "overview.js", "browser.js", "report.js")
_STYLES = ("report.css", "tree.css")
_NO_MODEL = " (given answers, not a model)"


def html(subjects: Sequence[Subject], *, rows: int = ROWS, live: bool = False) -> str:
    """The page of one subject, or of two that are compared. ``live``: it asks its server for what is new."""
    return page_of(data_of(subjects, rows=rows, live=live), live=live)


def page_of(data: dict[str, Any], *, live: bool = False) -> str:
    """The page that holds this data."""
    title = f"Gristmill: {' and '.join(run['name'] for run in data['runs'])}"
    return document(
        "report.html", data, styles=_STYLES, scripts=_SCRIPTS, title=title, style=STYLE, live=live
    )


def write(
    what: Sequence[str], *, out: Path | None = None, runs: Path = Path("runs"), rows: int = ROWS
) -> Path:
    """Write the report on one run or file, or on two; where to is given back.

    ``out`` is by default ``NAME-report.html`` (``NAME-OTHER-report.html``) in the current directory. Raises
    ``RunError`` and ``InputError`` where there is nothing to report on.
    """
    subjects = [open_subject(one, runs) for one in what]
    if out is None:
        out = Path(f"{'-'.join(Path(subject.name).stem for subject in subjects)}-report.html")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, html(subjects, rows=rows).encode())
    return out


def data_of(subjects: Sequence[Subject], *, rows: int = ROWS, live: bool = False) -> dict[str, Any]:
    """All that the page says, as plain data."""
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        names = [f"{name} ({at})" for at, name in enumerate(names, 1)]
    tables: list[dict[str, Any]] = []
    shown: list[Any] = []
    for at, subject in enumerate(subjects):
        held, views = picked(subject, rows // len(subjects), BYTES // len(subjects), len(tables))
        shown += views
        tables += [{"run": at, **{n: getattr(one, n) for n in one.__struct_fields__}} for one in held]
    return {
        "live": live,
        "seed": SEED,
        "runs": [_run(subject, name) for subject, name in zip(subjects, names, strict=True)],
        "tables": tables,
        "figures": list(_figures(subjects, names)),
        "rows": shown,
    }


def _run(subject: Subject, name: str) -> dict[str, Any]:
    """What is said of a run as a whole; of a file only its name and how its scorers agree."""
    told: dict[str, Any] = {"name": name, "mark": subject.mark, "agreement": _agreement(subject)}
    summary = subject.summary
    if summary is None:
        return told | {"files": list(subject.files)}
    told["said"] = list(_headline(summary))
    told["facts"] = list(_facts(summary, subject))
    told["funnel"] = [_stage(stage, subject) for stage in summary.stages]
    told["cost"] = list(_cost(summary)) if summary.total.requests or summary.total.from_log else []
    return told | {"recipe": subject.recipe}


def _headline(summary: Summary) -> Iterator[str]:
    """The run in a few sentences."""
    if summary.stages:
        first, last = summary.stages[0], summary.stages[-1]
        came = first.rows_in or first.rows_out
        yield f"{came:,} {'row' if came == 1 else 'rows'} came in at {first.name!r}."
        if summary.exports:
            made = ", ".join(f"{rows:,} in {name}" for name, rows in sorted(summary.exports.items()))
            yield f"Rows for training, in files: {made}."
        elif summary.unfinished:
            reached = next((s for s in reversed(summary.stages) if s.rows_out), first)
            yield f"So far {reached.name!r} was reached, which has {reached.rows_out:,}."
        elif last is not first:
            yield f"The last stage, {last.name!r}, kept {last.rows_out:,}."
        lost = sum(sum(stage.rejected.values()) for stage in summary.stages)
        many = f"On the way, {lost:,} rows were rejected, each with a reason."
        one = "On the way, one row was rejected, with its reason."
        yield many if lost > 1 else one if lost else "No row was rejected."
    yield from closing(summary)


def _facts(summary: Summary, subject: Subject) -> Iterator[list[str]]:
    if summary.model not in ("", "none"):
        yield ["model", summary.model + _NO_MODEL * (summary.model == "scripted")]
    yield from (["model of " + name, model] for name, model in sorted(summary.models.items()))
    yield ["seed", str(summary.seed)]
    if summary.limit is not None:
        yield ["limit", f"the first {summary.limit:,} rows of the source"]
    for export, rows in sorted(summary.exports.items()):
        yield ["export", f"{export}: {rows:,} {'row' if rows == 1 else 'rows'}"]
    if further := [name for name in subject.files if name not in summary.exports]:
        yield ["further files in exports", ", ".join(further)]
    yield from (["programs ran in", f"{box} ({name})"] for name, box in sorted(summary.sandboxes.items()))
    yield ["made with", f"gristmill {summary.gristmill}"]


def _stage(stage: StageCounts, subject: Subject) -> dict[str, Any]:
    reasons = sorted(stage.rejected.items(), key=lambda one: (-one[1], one[0]))
    entry = subject.stages.get(stage.name, StageEntry((), ""))
    return {
        "stage": stage.name,
        "reads": entry.reads,
        "does": entry.does,
        "in": stage.rows_in,
        "out": stage.rows_out,
        "rejected": [[why, n, stage.examples.get(why, "")] for why, n in reasons],
        "verdicts": dict(sorted(stage.verdicts.items())),
        "undecided": dict(sorted(stage.undecided.items())),
        "ended": dict(sorted(stage.finish_reasons.items())),
        "measured": [[name, stage.totals[name] / n, n] for name, n in sorted(stage.measured.items())],
        "completions": stage.completions,
        "tokens": [stage.tokens_in, stage.tokens_out, stage.tokens_reasoning],
    }


def _cost(summary: Summary) -> Iterator[list[str]]:
    """Lines of a table: what, of the last run, of all runs in the directory."""
    both = summary.spent, summary.total

    def line(name: str, field: str) -> list[str]:
        return [name, *(f"{getattr(spent, field):,}" for spent in both)]

    def usd(spent: Spent) -> str:
        return "no price given" if spent.usd is None else shown_usd(spent.usd)

    yield line("requests sent to the model", "requests")
    yield line("of these, sent again after a failure", "retries")
    yield line("completions taken from the log instead of paid for again", "from_log")
    yield line("tokens in (prompts)", "tokens_in")
    yield line("tokens out (answers)", "tokens_out")
    yield ["dollars", *map(usd, both)]
    if seconds := summary.timing.get("seconds"):
        yield ["seconds", f"{seconds:,.1f}", ""]


def _agreement(subject: Subject) -> list[dict[str, Any]]:
    """Of the last stage in which two scorers or more speak of the same rows."""
    for table in reversed(subject.kept()):
        if found := agreement(table.frame):
            return [{"stage": table.stage, **one} for one in found]
    return []


def _figures(subjects: Sequence[Subject], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The figures of each stage; where two runs or files are compared, of both together."""
    held = [{table.stage: table.frame for table in subject.kept()} for subject in subjects]
    if all(subject.summary is None for subject in subjects):
        held = [dict(zip(["rows"], tables.values(), strict=True)) for tables in held]
    for stage in dict.fromkeys(stage for tables in held for stage in tables):
        drawn = {
            n if len(names) > 1 else "": t[stage] for n, t in zip(names, held, strict=True) if stage in t
        }
        yield {"stage": stage, "figures": figures(drawn)}
