"""The ``gristmill`` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from gristmill.cli import planning
from gristmill.cli.continuing import continued, distributed, leave_at_once
from gristmill.cli.exporting import export, formats, push, trace
from gristmill.cli.methods import DataOption, EngineOption, check_expected, chosen, merged, methods
from gristmill.cli.models.loop import loop
from gristmill.cli.options import (
    INTERRUPTED,
    NONE,
    RUNS,
    SOME,
    LimitOption,
    LogOption,
    PartialOption,
    PayAgainOption,
    RecipeArg,
    RunArg,
    RunsOption,
    SetOption,
    asking,
    compared,
    printed,
    status_of,
)
from gristmill.cli.reports.check import check
from gristmill.cli.reports.stats import stats
from gristmill.core.errors import GristmillError, RecipeError
from gristmill.pipelines.recipe.method import SCRIPTED
from gristmill.pipelines.rundir.directory import run_path

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn a language model's own samples into training corpora that can be trusted.",
)


class _Later(TyperGroup):
    """A group of commands that lives in a module of its own, which is loaded when one is asked for."""

    module: ClassVar[str]

    def list_commands(self, ctx: Any) -> list[str]:
        return self._group().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._group().get_command(ctx, cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is not the name of a command is for the group's ``DEFAULT``, where its module has one."""
        default = getattr(importlib.import_module(self.module), "DEFAULT", None)
        if default and args and args[0] not in {*self.list_commands(ctx), *ctx.help_option_names}:
            args = [default, *args]
        return super().parse_args(ctx, args)

    def _group(self) -> TyperGroup:
        return typer.main.get_group(importlib.import_module(self.module).app)


for _name, _module, _help in (
    ("eval", "evaluate", "Measure what an engine can do."),
    ("log", "log", "Look after the completion log."),
    ("train", "models.train", "Train a model on exported rows."),
    ("merge", "models.merge", "Merge models of one architecture."),
    ("report", "reports.report", "Say what a run or its rows are like: gristmill report RUN."),
    ("new", "new", "Write files to begin with."),
):
    app.add_typer(
        typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_help),
        name=_name,
        cls=type(f"_Later_{_name}", (_Later,), {"module": f"gristmill.cli.{_module}"}),
    )


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from gristmill.core.version import __version__

        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeArg,
    overrides: SetOption = None,
    engine: EngineOption = None,
    data: DataOption = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue in the run's directory although the recipe has changed."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Read nothing older from the completion log: pay anew.")
    ] = False,
    pay_again: PayAgainOption = False,
    limit: LimitOption = None,
    runs: RunsOption = RUNS,
    log: LogOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no closing table.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Do not ask before --limit makes a complete run smaller.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Progress and summary as JSON lines.")] = False,
    track: Annotated[str | None, typer.Option(help="Report the progress to wandb or trackio.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="Run as tasks on an executor: local, slurm or ray.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="With --executor: into how many.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="With --executor: how many at a time.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the executor: time=08:00:00."),
    ] = None,
) -> None:
    """Run a recipe. A run that was stopped continues where it was: nothing is paid for twice.

    The exit status says what was made: 0 all, 3 some, 4 nothing; 5 stopped, can be continued; 2 a recipe or
    command that cannot be run. This function is longer than most for its options.
    """
    from gristmill.pipelines.running import runner
    from gristmill.pipelines.running.trackers import tracked

    if resume and fresh:
        raise RecipeError("--resume and --fresh exclude each other.", remedy="Give one of them.")
    if executor is not None and (json or track):
        raise RecipeError("--executor reports no progress.", remedy="Leave out --json and --track.")
    if merged(recipe, overrides or [], engine, runs):
        return
    given: dict[str, Any] = {
        "overrides": chosen(recipe, overrides or [], engine, data),
        "resume": resume,
        "fresh": fresh,
        "limit": limit,
        "runs": runs,
        "log": log,
        "quiet": quiet,
        "replace": replace,
        "pay_again": pay_again,
        "confirm": asking(),
    }
    again = continued(recipe, overrides or [], limit, runs, log, resume=resume, engine=engine, data=data)
    again += distributed(executor, tasks, workers, option or [])
    try:
        if executor is not None:
            from gristmill.pipelines.distributed.submit import distribute

            done = distribute(
                recipe, executor=executor, tasks=tasks or 1, workers=workers, options=option or [], **given
            )
        else:
            with tracked(track, recipe.stem) as watch:
                done = runner.run(
                    recipe,
                    **given,
                    json=json,
                    watch=watch,
                    again=f"Continue with: {again}",
                    at_once=lambda: leave_at_once(again),
                )
    except (runner.Interrupted, KeyboardInterrupt) as error:
        typer.echo(printed(str(error)) or f"stopped. Continue with: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from error
    if done is not None:
        if engine == SCRIPTED and not (overrides or data or limit):
            check_expected(recipe, done)
        raise typer.Exit({"all": 0, "some": SOME, "none": NONE}[done.summary.made])


app.command()(loop)
app.command()(methods)
app.command()(planning.plan)
app.command()(planning.explain)


@app.command()
def preview(
    recipe: RecipeArg,
    overrides: SetOption = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows of each source and stage.")] = 5,
    log: LogOption = None,
) -> None:
    """Show the first rows through every stage. What they cost is in the log, and not paid again by 'run'."""
    from rich.console import Console

    from gristmill.pipelines.show.preview import preview as show_preview

    console = Console(highlight=False, markup=False, emoji=False)
    show_preview(recipe, console, overrides=overrides or [], rows=n, log=log)


@app.command()
def show(
    run: RunArg,
    stage: Annotated[str | None, typer.Option(help="The stage to show. Default: the last.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=0, help="How many rows. Default: 3.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Show what the stage dropped.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page of trees or valued steps instead (-n: 100)."),
    ] = None,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show a run's summary and rows: trees, steps with their values, trajectories, pairs and samples."""
    from gristmill.pipelines.rundir.results import open_run

    found = open_run(run_path(run, runs), partial=partial)
    if html is not None:
        from gristmill.pipelines.show import page

        drawn = page.write(found, html, stage=stage, n=100 if n is None else n)
        typer.echo(f"{drawn:,} drawn: {html}")
        return
    from rich.console import Console

    from gristmill.pipelines.show.terminal import show as print_run

    console = Console(highlight=False, markup=False, emoji=False)
    print_run(found, console, stage=stage, n=3 if n is None else n, rejected=rejected)


@app.command()
def view(
    what: Annotated[list[str], typer.Argument(metavar="RUN|FILE [OTHER]", help="One, or two to compare.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 0,
    runs: RunsOption = RUNS,
) -> None:
    """Serve the report of a run to this machine; the page follows the run while it goes on."""
    from gristmill.pipelines.show.live import LiveReport, LiveServer

    with LiveServer(LiveReport(compared(what), runs), port) as server:
        typer.echo(f"{server.url}  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended.")


app.command()(export)
app.command()(formats)
app.command()(stats)
app.command()(check)
app.command()(push)
app.command()(trace)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, CSV or Parquet.")],
    gold: Annotated[str, typer.Option(help="The column with the reference answers.")] = "answer",
    pred: Annotated[str, typer.Option(help="The column with the texts to judge.")] = "response",
    kind: Annotated[str, typer.Option(help="The verifier.")] = "math",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the verifier.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds of processor time for one verdict.")] = 2.0,
    out: Annotated[Path | None, typer.Option(help="A JSONL file for the verdict on each row.")] = None,
    engine: Annotated[
        Path | None, typer.Option(help="For kinds that ask a model, a YAML file: kind: NAME, and options.")
    ] = None,
    problem: Annotated[
        str, typer.Option(help="The column with the problems, for kinds that read them.")
    ] = "problem",
    log: LogOption = None,
) -> None:
    """Judge the answers in a file against their references.

    Kinds that ask a model, such as judge, take an --engine, answer from the completion log where they can,
    and may judge without a reference: --gold "".
    """
    from gristmill.pipelines.evaluate import verify as verification
    from gristmill.pipelines.recipe.plain import set_value

    options: dict[str, Any] = {}
    for text in option or []:
        set_value(options, text)
    judges, asks = verification.judges(kind, options, workers, deadline, engine, log)
    asked, refer = problem if asks else None, verification.told(kind, problem)
    with judges:
        counts = verification.verify_file(
            file, gold=gold, pred=pred, pool=judges, out=out, problem=asked, refer=refer
        )
    typer.echo(verification.table(counts))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="engines, verifiers, stages, ...; or a part's name."),
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this part's options.")] = None,
) -> None:
    """List the parts that recipes can name, plug-ins included; of one part, its options."""
    from gristmill.cli.catalogue import catalogue

    for line in catalogue(kind, name).splitlines():
        typer.echo(printed(line))


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import msgspec

    from gristmill.pipelines.recipe.schema import json_schema

    typer.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())


def main() -> None:
    """The entry point. The exit statuses are in ``gristmill.cli.options`` and in docs/runs.md."""
    # Many rows are in flight at once, all of them alive: collecting after every 700 of them finds nothing.
    gc.set_threshold(20_000, 20, 20)
    try:
        app()
    except GristmillError as error:
        typer.echo(f"error: {printed(str(error))}", err=True)
        sys.exit(status_of(error))
    finally:
        if "torch" not in sys.modules:  # its libraries would report what was not collected as leaks
            gc.freeze()  # the interpreter's last collection then takes no time: 70 ms less


if __name__ == "__main__":
    main()
