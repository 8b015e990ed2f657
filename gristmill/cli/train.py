"""``gristmill train``: weights in and out, and training on exported rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gristmill.pipelines.recipe.plain import convert, document, set_value
from gristmill.train.sft import Sft, TrainingMetrics, train
from gristmill.train.weights import Precision, pack, unpack

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_GGUF = "A .gguf file, or hf:OWNER/REPOSITORY/FILE.gguf. Default: the model of the embedded engine."


@app.callback()
def _group() -> None:
    """Train a model on exported rows."""


@app.command()
def sft(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The training configuration, a YAML file.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as seed=1 or lora.r=8."),
    ] = None,
) -> None:
    """Fine-tune on rows of trl-sft, trl-prompt-completion or text. Stopped, the same command goes on."""
    options = read(config, overrides or [])
    typer.echo(table(train(options)))
    typer.echo(f"\n{Path(options.output) / 'model'}")


@app.command()
def weights(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    model: Annotated[str, typer.Option(help=_GGUF)] = "",
) -> None:
    """Write a GGUF model as a folder that Transformers and vLLM load, and 'train sft' trains."""
    typer.echo(unpack(model, out))


@app.command()
def gguf(
    model: Annotated[Path, typer.Option(metavar="DIR", help="The folder of a trained model.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .gguf file to write.")],
    like: Annotated[str, typer.Option(help=f"What it was trained from. {_GGUF}")] = "",
    precision: Annotated[Precision, typer.Option(help="Of the matrices.")] = "f16",
) -> None:
    """Write a trained folder as a GGUF file, which the engine llamacpp runs."""
    typer.echo(pack(model, out, like=like, precision=precision))


def read(config: Path, overrides: list[str]) -> Sft:
    """The configuration in a YAML file, with overrides. Raises ``RecipeError``."""
    data = document(config)
    for override in overrides:
        set_value(data, override)
    return convert(data, Sft, "")


def table(metrics: TrainingMetrics) -> str:
    """What a training run did, a line each."""
    shown = {k: v for k, v in msgspec.to_builtins(metrics).items() if k != "fingerprint"}
    width = max(map(len, shown))
    return "\n".join(
        f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {value:.4g}"
        for name, value in shown.items()
    )
