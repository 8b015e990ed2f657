"""``gristmill check``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gristmill.cli.options import RUNS, SOME, PartialOption, RunsOption


def check(
    what: Annotated[
        str, typer.Argument(metavar="FILE|RUN[:STAGE]", help="JSONL, Parquet or .dataset, or a run.")
    ],
    format_: Annotated[str, typer.Option("--format", help="The format, such as trl-sft.")],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the format: reasoning=keep."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Measure rows by it, and ask its chat template."),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens that a row may have; needs --tokenizer.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=0, help="How many rows are shown for each reason.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Say what a trainer would choke on, or silently leave out. The exit status is 3 where there is such."""
    from gristmill.pipelines.checking import check as checked
    from gristmill.pipelines.recipe.plain import set_value

    options: dict[str, Any] = {}
    for text in option or []:
        set_value(options, text)
    found = checked(
        what,
        format_,
        options=options,
        tokenizer=tokenizer,
        max_length=max_length,
        examples=n,
        runs=runs,
        partial=partial,
    )
    typer.echo(found.as_json() if json else found.as_text())
    if not found.clean:
        raise typer.Exit(SOME)
