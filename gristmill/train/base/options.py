"""What every kind of training may be told, and what it gives back."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (arXiv 2106.09685)."""

    r: Annotated[int, Meta(ge=1)] = 16
    """The rank of the adapters."""
    alpha: Annotated[float, Meta(gt=0)] = 32
    """What the adapters add is scaled by ``alpha / r``."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The probability, in [0, 1), with which an input of an adapter is dropped during training."""
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The names of the modules that get an adapter, as the model calls them."""
    last_layers: Annotated[int, Meta(ge=1)] | None = None
    """How many layers get adapters, counted from the last; ``null`` for all."""


class Training(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options that all kinds of training have.

    Two runs of one configuration on one machine with the same number of threads produce the same weights.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "trl", "accelerate")
    """What must be installed."""
    models: ClassVar[tuple[str, ...]] = ("model",)
    """The options that name folders of weights; one that is ``null`` is not used."""
    files: ClassVar[tuple[str, ...]] = ("data",)
    """The options that name files of rows; one that is ``null`` is not used."""

    model: Annotated[str, Meta(min_length=1)]
    """A folder that Transformers can load, with ``config.json`` and ``.safetensors`` files, or
    ``hf:OWNER/NAME`` for one on the Hub."""
    data: Annotated[str, Meta(min_length=1)]
    """A JSON lines file whose rows the kind of training reads."""
    output: Annotated[str, Meta(min_length=1)]
    """The folder for the results."""
    epochs: Annotated[float, Meta(gt=0)] = 1
    """How many times all rows are used; may be a fraction."""
    max_steps: Annotated[int, Meta(ge=1)] | None = None
    """The number of steps; replaces ``epochs``. ``null`` for as many as ``epochs`` takes."""
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-5
    """The largest learning rate, reached at the end of the warm-up."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.03
    """The share of the steps, in [0, 1), over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    """The weight decay of AdamW."""
    batch: Annotated[int, Meta(ge=1)] = 8
    """Rows per step, of all processes together."""
    accumulate: Annotated[int, Meta(ge=1)] = 1
    """Into how many parts a batch is divided to save memory; the step is the same. It must divide ``batch``,
    and with several processes its product with their number must."""
    max_length: Annotated[int, Meta(ge=2)] = 1024
    """The largest number of tokens of a row. A longer row is not cut but left out, and listed in
    ``rejected.jsonl``."""
    lora: Lora | None = None
    """Train low-rank adapters, which are merged into the weights at the end; ``null`` trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The number format of the computation. Trained weights are kept as 32-bit numbers in either case; with
    ``bfloat16`` and ``lora`` the frozen weights are rounded to 16 bits."""
    gpu: bool = True
    """Whether to use a GPU if there is one."""
    seed: int = 0
    """The seed of the order of the rows, of dropout and of new weights."""
    log_every: Annotated[int, Meta(ge=1)] = 10
    """Steps between two lines of ``log.jsonl``."""
    save_every: Annotated[int, Meta(ge=1)] = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise RecipeError(
                f"accumulate: {self.accumulate} does not divide the batch of {self.batch} rows.",
                remedy="Choose a batch that is a multiple of accumulate.",
            )

    def inputs(self) -> list[str]:
        """The files of rows that are used."""
        return [given for name in self.files if (given := getattr(self, name)) is not None]


class TrainingMetrics(Struct, frozen=True):
    """What a training run did.

    ``tokens`` counts the tokens of the rows once, ``trained_tokens`` those of them that carry loss.
    ``first_loss`` and ``last_loss`` are the mean losses of the first and last logged steps (of language
    models natural logarithms, per token), ``seconds`` the time since the last start.
    """

    rows: int
    rows_too_long: int
    tokens: int
    trained_tokens: int
    parameters: int
    trained_parameters: int
    steps: int
    first_loss: float
    last_loss: float
    seconds: float
    fingerprint: str
    measures: dict[str, float] = {}
    """What the trainer measured at its last logged step besides the loss, under the trainer's own names."""
    processes: int = 1
    """How many processes trained together."""
