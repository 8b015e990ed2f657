"""``gristmill loop``: rounds of sampling, curation, training and evaluation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.options import INTERRUPTED, LogOption
from gristmill.cli.shipped import LOOPS, find


def loop(
    file: Annotated[str, typer.Argument(metavar="LOOP", help="A file, or the name of a shipped loop.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="DIR", help="The weights to begin with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder. Default: loops/NAME.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many rounds.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: steps.tuned.with.epochs=2."),
    ] = None,
    log: LogOption = None,
) -> None:
    """Sample, curate, train, evaluate, and again. Stopped at any point, the same command continues."""
    from gristmill.pipelines.loops import rounds as at_work
    from gristmill.pipelines.loops import table
    from gristmill.pipelines.loops.options import Loop
    from gristmill.pipelines.recipe.plain import convert, document, set_value
    from gristmill.pipelines.running.runner import Interrupted

    path = find(file, LOOPS)
    options = document(path)
    for override in overrides or []:
        set_value(options, override)
    options |= {k: v for k, v in {"model": model, "rounds": rounds}.items() if v is not None}
    made = convert(options, Loop, "", see="The page docs/loops.md lists the keys of a loop.")
    folder = out or Path("loops") / made.name
    try:
        done = at_work.run_loop(
            made, folder, beside=path.parent, log=log, say=lambda text: typer.echo(text, err=True)
        )
    except (Interrupted, KeyboardInterrupt) as error:
        words = ["gristmill", "loop", file, *(["--model", model] if model else [])]
        words += ["--out", str(out)] if out else []
        words += ["--rounds", str(rounds)] if rounds else []
        words += [word for text in overrides or [] for word in ("--set", text)]
        words += ["--log", str(log)] if log else []
        typer.echo(f"stopped. Continue with: {shlex.join(words)}", err=True)
        raise typer.Exit(INTERRUPTED) from error
    table.write(done, folder, made.name)
    typer.echo(table.markdown(done))
    typer.echo(f"\n{folder / 'rounds.html'}\n{done[0].rounds[-1].model}")
