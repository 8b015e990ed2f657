"""A plan as plain text: the table, and the prompts."""

from __future__ import annotations

import msgspec

from gristmill.core.money import shown_usd
from gristmill.pipelines.planning.bounds import Plan, StagePlan
from gristmill.pipelines.rundir.summary import align, printable


def table(plan: Plan) -> str:
    """The plan as plain text. What is expected stands beside the bounds if they differ, dollars if there are
    prices."""
    wide = any(s.completions_min != s.completions_max for s in plan.stages)
    priced = any(s.usd for s in plan.stages)
    head = [
        "stage",
        "rows",
        "done",
        "in the log",
        "completions",
        *["expected"] * wide,
        "tokens in",
        "tokens out",
    ]
    rows: list[list[str]] = [head + ["cost"] * priced]
    notes: dict[str, list[str]] = {}
    for stage in plan.stages:
        counts = [f"{n:,}" for n in (stage.rows, stage.done, stage.in_log)]
        if not stage.known:
            counts = ["?" if stage.rows_most is None else f"<= {stage.rows_most:,}", "?", "?"]
        rows.append([stage.name, *counts, *_costs(stage, wide, priced)])
        if stage.note:
            notes.setdefault(stage.note, []).append(stage.name)
        if stage.open_rows:
            more = f"{stage.open_rows:,} rows before it are not through yet, and will bring more"
            notes.setdefault(more, []).append(stage.name)
    total = f"{sum(plan.sources.values()):,} {plan.what}"
    if len(plan.sources) > 1:
        total += f" ({', '.join(f'{name} {n:,}' for name, n in plan.sources.items())})"
    head_line = f"{plan.name}: {total}, {plan.rejected:,} rows rejected. Still to be paid for:"
    said = [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    said += [plan.note] if plan.note else []
    return "\n".join([head_line, "", *align(rows), *([""] if said else []), *said])


def _costs(stage: StagePlan, wide: bool, priced: bool) -> list[str]:
    """The cells of what a stage will cost."""
    if not stage.bounded:
        return ["?"] * (3 + wide + priced)
    least, most, likely = stage.completions_min, stage.completions_max, stage.completions_expected
    cells = [f"{most:,}" if least == most else f"{least:,} to {most:,}"]
    cells += ["?" if likely is None else f"{likely:,}"] * wide
    cells += [f"<= {n:,}" if n else "0" for n in (stage.tokens_in, stage.tokens_out)]
    if priced:
        about = "" if least == most or stage.usd_expected is None else f"{shown_usd(stage.usd_expected)}, "
        cells.append("?" if stage.usd is None else f"{about}<= {shown_usd(stage.usd)}")
    return cells


def rendered(plan: Plan) -> str:
    """The prompts of a plan as plain text, message by message."""
    lines = []
    for name, asked in plan.prompts.items():
        for row_id, request in asked:
            sampling = ", ".join(f"{k} {v}" for k, v in msgspec.to_builtins(request.sampling).items())
            lines += ["", f"-- {name}, row {printable(row_id)}" + f" ({sampling})" * bool(sampling)]
            turns: list[tuple[str, str]] = [(m.role, m.content) for m in request.messages]
            turns += [("assistant, continued", request.prefix)] if request.prefix else []
            for role, content in turns:
                lines += [f"[{role}]", *(printable(line) for line in content.splitlines())]
    return "\n".join(lines).lstrip("\n") or "No stage asks a model about a row that is known yet."
