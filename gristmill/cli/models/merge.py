"""``gristmill merge``: several models of one architecture as one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from gristmill.cli.options import RUNS
from gristmill.core.errors import RecipeError

if TYPE_CHECKING:
    from gristmill.train.merging import Blend, Missing

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Models = Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Folders of models, two or more.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; it must not exist.")]
MissingOption = Annotated[
    str, typer.Option(metavar="refuse|first", help="What to do with a tensor that some model lacks.")
]
RowsOption = Annotated[
    str,
    typer.Option(metavar="FILE|RUN[:STAGE]", help="Rows with loss: trl-sft, trl-prompt-completion or text."),
]
Batch = Annotated[int, typer.Option(min=1, help="Rows that are computed at once.")]
Longest = Annotated[int, typer.Option(min=1, help="The most tokens of a row.")]
Gpu = Annotated[bool, typer.Option("--gpu/--cpu", help="Compute losses on the GPU, if there is one.")]
Aligned = Annotated[Path, typer.Option(metavar="DIR", help="The model after alignment.")]
Base = Annotated[Path, typer.Option(metavar="DIR", help="The model before it.")]


@app.callback()
def _group() -> None:
    """Merge models of one architecture."""


@app.command()
def average(
    models: Models,
    out: Out,
    weight: Annotated[
        list[float] | None, typer.Option(help="One for each model, in order; divided by their sum.")
    ] = None,
    missing: MissingOption = "refuse",
) -> None:
    """The mean of the models, or their weighted mean."""
    from gristmill.train.merging import normalised

    _merge(
        models,
        out,
        normalised(_one_each(weight, models, "--weight") or [1.0] * len(models)),
        "average",
        missing,
    )


@app.command()
def metric(
    models: Models,
    out: Out,
    value: Annotated[list[float], typer.Option(help="The metric of each model, in order.")],
    better: Annotated[str, typer.Option(metavar="lower|higher", help="Which metric is the better one.")],
    penalty: Annotated[float, typer.Option(help="How strongly the metric counts; 0 is the mean.")] = 1.0,
    missing: MissingOption = "refuse",
) -> None:
    """A mean weighted by a metric of each model: loss, accuracy, steps (MWA)."""
    from gristmill.train.merging import metric_shares

    way: Literal["lower", "higher"] = "lower" if _one_of("--better", better, "lower", "higher") else "higher"
    shares = metric_shares(_one_each(value, models, "--value"), better=way, penalty=penalty)
    _merge(models, out, shares, "metric", missing, {"values": value, "better": better, "penalty": penalty})


@app.command()
def moving(
    models: Models,
    out: Out,
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="The share of the average that is kept at each model.")
    ] = None,
    rows: Annotated[
        str, typer.Option(metavar="FILE|RUN[:STAGE]", help="In place of --keep: rows of the newest task.")
    ] = "",
    stability: Annotated[
        float, typer.Option(min=0, help="With --rows: what moving from the average costs, in nats.")
    ] = 0.0,
    batch: Batch = 8,
    longest: Longest = 1024,
    gpu: Gpu = True,
    missing: MissingOption = "refuse",
) -> None:
    """An exponential moving average, the models in the order of training.

    With --rows the share that is kept is computed from the loss's slopes: of two models, the old average
    and the new one.
    """
    from gristmill.train.merging import Blend, equal_shares, kept_share, moving_average_shares

    if (keep is None) == (not rows):
        raise RecipeError("One of --keep and --rows must be given.", remedy="--keep 0.9 keeps nine tenths.")
    details: dict[str, object] = {}
    kept = [keep or 0.0] * (len(models) - 1)
    if rows:
        if len(models) != 2:
            raise RecipeError(
                f"--rows takes two models, and {len(models)} were given.",
                remedy="Merge the average so far with the next model, one after another.",
            )
        with _file_of(rows) as file:
            blend = Blend(models[::-1], batch=batch, longest=longest, gpu=gpu)
            encoded = blend.rows(file)
            new_loss, new = blend.slopes(equal_shares([1, 0]), encoded, lambda name: None)
            old_loss, old = blend.slopes(equal_shares([0, 1]), encoded, lambda name: None)
        kept = [kept_share(new[None], old[None], stability=stability)]
        details = {"loss_new": new_loss, "loss_old": old_loss, "slope_new": new[None], "slope_old": old[None]}
    _merge(models, out, moving_average_shares(kept), "moving", missing, details | {"kept": kept})


@app.command()
def adaptive(
    aligned: Aligned,
    base: Base,
    out: Out,
    mean: Annotated[float, typer.Option(min=0, max=1, help="The mean share of the aligned model.")] = 0.2,
    groups: Annotated[int, typer.Option(min=1, help="Into how many groups the layers are cut.")] = 3,
    rows: Annotated[
        str, typer.Option(metavar="FILE|RUN[:STAGE]", help="The best answers of the aligned model.")
    ] = "",
    ratio: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="In place of --rows: the aligned model's share in each group."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the descent.")] = 10,
    batch: Batch = 8,
    longest: Longest = 1024,
    gpu: Gpu = True,
    missing: MissingOption = "refuse",
) -> None:
    """An aligned model and its base with a ratio for each group of layers (AMA)."""
    from gristmill.train.merging import group_shares, layer_count, merge, tune_ratios

    if (not ratio) == (not rows):
        raise RecipeError("One of --rows and --ratio must be given.", remedy="--ratio once for each group.")
    details: dict[str, object] = {}
    chosen = ratio or []
    if rows:
        with _file_of(rows) as file:
            blend = _blend([aligned, base], batch, longest, gpu)
            found = tune_ratios(blend, blend.rows(file), mean=mean, groups=groups, steps=steps)
        chosen, details = found.aligned, {"losses": found.losses}
    shown = {f"group {i + 1}": [a, 1 - a] for i, a in enumerate(chosen)}
    middle = sum(chosen) / len(chosen)
    report = merge(
        [aligned, base],
        out,
        group_shares(chosen, layer_count(aligned)),
        method="adaptive",
        shown=shown | {"others": [middle, 1 - middle]},
        missing=_missing(missing),
        details=details,
    )
    typer.echo(f"{report.table()}\n\n{out}")


@app.command()
def search(
    models: Models,
    out: Out,
    rows: RowsOption,
    draws: Annotated[int, typer.Option(min=0, help="Combinations to measure, beside the first ones.")] = 60,
    seed: int = 0,
    negative: Annotated[bool, typer.Option(help="Whether coefficients may be below 0.")] = True,
    batch: Batch = 8,
    longest: Longest = 1024,
    gpu: Gpu = True,
    missing: MissingOption = "refuse",
) -> None:
    """The combination with the lowest loss on rows that an evolutionary search finds (LCSC)."""
    from gristmill.train.merging import CoefficientSearch, equal_shares
    from gristmill.train.merging import search as find

    with _file_of(rows) as file:
        blend = _blend(models, batch, longest, gpu)
        encoded = blend.rows(file)
        options = CoefficientSearch(draws=draws, seed=seed, negative=negative)
        found = find(lambda shares: blend.loss(equal_shares(shares), encoded), len(models), options)
    details = {"loss": found.measure, "history": found.history}
    _merge(models, out, found.shares, "search", missing, details)


@app.command()
def grid(
    aligned: Aligned,
    base: Base,
    rewarded: Annotated[str, typer.Option(metavar="FILE|RUN[:STAGE]", help="Rows that alignment is for.")],
    held_out: Annotated[str, typer.Option(metavar="FILE|RUN[:STAGE]", help="Rows that it may cost.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON lines to write, for 'merge front'.")],
    at: Annotated[str, typer.Option(help="Mean shares of the aligned model.")] = "0,0.2,0.4,0.6,0.8,1",
    groups: Annotated[int, typer.Option(min=1, help="Above 1: also the adaptive ratios at each.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of their descent.")] = 10,
    batch: Batch = 8,
    longest: Longest = 1024,
    gpu: Gpu = True,
) -> None:
    """Measure merged models over a grid of shares by minus their losses, without writing any."""
    from gristmill.core.files import write_whole
    from gristmill.train.merging import measure_grid

    try:
        shares = [float(text) for text in at.split(",")]
    except ValueError:
        raise RecipeError(f"--at {at!r} is not a list of numbers.", remedy="Write 0,0.5,1.") from None
    with _file_of(rewarded) as wanted, _file_of(held_out) as other:
        blend = _blend([aligned, base], batch, longest, gpu)
        found = measure_grid(blend, blend.rows(wanted), blend.rows(other), shares, groups=groups, steps=steps)
    write_whole(out, b"".join(msgspec.json.encode(point) + b"\n" for point in found))
    typer.echo(f"{len(found):,} models measured: {out}")


@app.command()
def front(
    measured: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines: name, reward, ability.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the front as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
) -> None:
    """Which models are on the front of reward against ability."""
    from gristmill.core.files import write_whole
    from gristmill.train.merging import plot_front, read_measured, reward_tax_front

    found = reward_tax_front(read_measured(measured))
    if out:
        write_whole(out, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if plot:
        plot_front(found, plot)
    typer.echo(found.table())


def _merge(
    models: list[Path],
    out: Path,
    shares: list[float],
    method: str,
    missing: str,
    details: dict[str, object] | None = None,
) -> None:
    """Merge with the same shares for every tensor, and print the report."""
    from gristmill.train.merging import equal_shares, merge

    report = merge(
        models,
        out,
        equal_shares(shares),
        method=method,
        shown={"all": shares},
        missing=_missing(missing),
        details=details,
    )
    typer.echo(f"{report.table()}\n\n{out}")


def _blend(models: list[Path], batch: int, longest: int, gpu: bool) -> Blend:
    from gristmill.train.merging import Blend

    return Blend(models, batch=batch, longest=longest, gpu=gpu)


def _missing(value: str) -> Missing:
    return "refuse" if _one_of("--missing", value, "refuse", "first") else "first"


def _one_of(option: str, value: str, first: str, second: str) -> bool:
    """Whether ``value`` is ``first``; ``RecipeError`` if it is neither."""
    if value not in (first, second):
        raise RecipeError(
            f"{option} {value!r} is not {first} or {second}.", remedy=f"Write {option} {first}."
        )
    return value == first


def _one_each(values: list[float] | None, models: list[Path], option: str) -> list[float]:
    values = values or []
    if values and len(values) != len(models):
        raise RecipeError(
            f"{option} was given {len(values)} times for {len(models)} models.",
            remedy="Give it once for each model, in their order.",
        )
    return values


@contextmanager
def _file_of(rows: str) -> Iterator[Path]:
    """A file of rows; of a run's stage (``RUN:STAGE``, ``RUN``) a passing one, as ``train sft`` reads it."""
    from gristmill.pipelines.training import training_file

    with tempfile.TemporaryDirectory() as folder:
        yield training_file(rows, "sft", Path(folder), runs=RUNS)
