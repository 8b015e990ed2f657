"""``gristmill train``: weights in and out, and training on exported rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from msgspec.structs import replace

from gristmill.cli.options import RUNS, RunsOption
from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe.plain import TRAININGS, convert, document, set_value
from gristmill.pipelines.training import training_file
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.processes import in_turn, is_first
from gristmill.train.weights import Precision, pack, unpack

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

T = TypeVar("T", bound=Training)
_Config = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG]", help="A YAML file with options of the training.")
]
_Data = Annotated[
    str | None,
    typer.Option("--data", metavar="RUN[:STAGE]|FILE", help="The rows: of a run, or a JSON lines file."),
]
_Model = Annotated[str | None, typer.Option("--model", metavar="DIR", help="The weights to begin with.")]
_Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder for the results.")]
_Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another option, such as seed=1 or lora.r=8."),
]
_GGUF = "A .gguf file, or hf:OWNER/REPOSITORY/FILE.gguf. Default: the model of the embedded engine."


@app.callback()
def _group() -> None:
    """Train a model on exported rows."""


def _kind(name: str, help: str) -> None:
    """Add the command of a kind of training: the module ``gristmill.train.NAME``."""

    def command(
        config: _Config = None,
        data: _Data = None,
        model: _Model = None,
        out: _Out = None,
        overrides: _Overrides = None,
        runs: RunsOption = RUNS,
    ) -> None:
        module = import_module(f"gristmill.train.{name}")
        given = {"data": data, "model": model, "output": str(out) if out else None}
        options = read(config, module.OPTIONS, overrides or [], given)
        folder = Path(options.output)
        with in_turn(folder):
            files: dict[str, Any] = {"data": str(training_file(options.data, name, folder, runs=runs))}
            if mix := getattr(options, "mix", ()):
                others = [(one, folder / f"mix-{number}") for number, one in enumerate(mix, 1)]
                files["mix"] = tuple(
                    replace(one, data=str(training_file(one.data, name, out, runs=runs)))
                    for one, out in others
                )
        metrics = module.train(replace(options, **files))
        if is_first():
            typer.echo(f"{table(metrics)}\n\n{folder / 'model'}")

    app.command(name.replace("_", "-"), help=help)(command)


_kind(
    "sft",
    "Fine-tune on conversations, their loss marks kept, or text. Stopped, the same command goes on.",
)
_kind("policy", "Train on the model's own answers to trl-prompts (GRPO, RLOO), which a verifier rewards.")

_kind(
    "reward",
    "Train a reward model on pairs (trl-dpo, trl-reward, ties), or on scored-answers with 'attributes'.",
)
_kind(
    "process_reward",
    "Train a process reward model on prm-rows or trl-stepwise, or on trl-kto with head=implicit.",
)
_kind("preference", "Train on pairs (DPO, IPO, SimPO, CPO, ORPO) or labelled answers (KTO, BCO).")

_kind("encoder", "Fine-tune a small encoder that reads whether a passage supports a claim (grounding_rows).")


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


def read(
    config: Path | None,
    kind: type[T],
    overrides: Sequence[str],
    given: Mapping[str, str | None] | None = None,
) -> T:
    """The options in a YAML file, with what else is ``given`` and overrides. Raises ``RecipeError``."""
    options = document(config) if config else {}
    options |= {key: value for key, value in (given or {}).items() if value is not None}
    for override in overrides:
        set_value(options, override)
    names = {"data": "--data", "model": "--model", "output": "--out"}
    if missing := [option for key, option in names.items() if key not in options]:
        raise RecipeError(
            f"nothing says which {' and '.join(missing)} to use.",
            remedy=f"Add {' and '.join(missing)}, or give a configuration file that says it.",
        )
    return convert(options, kind, "", see=TRAININGS)


def table(metrics: TrainingMetrics) -> str:
    """What a training run did, a line each."""
    shown = {k: v for k, v in msgspec.to_builtins(metrics).items() if k not in ("fingerprint", "measures")}
    shown |= metrics.measures
    width = max(map(len, shown))
    return "\n".join(
        f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {value:.4g}"
        for name, value in shown.items()
    )
