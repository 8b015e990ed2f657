"""Preference training: pairs or labelled answers and a folder of weights in, a folder out.

A plain trainer of Transformers with the losses of ``gristmill.train.losses``: TRL 1.16's trainers put loss
on user turns inside a side, and take neither a weight nor a chance of a wrong label for each row. The
reference's log-probabilities are computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gristmill.core.errors import InputError, RecipeError
from gristmill.train import losses
from gristmill.train.base.data import cannot_render, write_rejected
from gristmill.train.base.models import adapters, arguments, history, language_model, tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.running import Prepared, run_training
from gristmill.train.base.sides import ComparedRow, TokenSide, answers, put, read_sides
from gristmill.train.base.turns import IGNORED, TokenRow

Loss = Literal["dpo", "ipo", "copg", "simpo", "cpo", "orpo", "kto", "bco"]
_FREE = ("simpo", "cpo", "orpo")
"""Losses without a reference."""
_LABELS = ("kto", "bco")
"""Losses of labelled answers; a pair is two of them."""


class PreferenceTraining(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Preference training on rows in one of the forms that ``gristmill.train.base.sides`` describes."""

    models: ClassVar[tuple[str, ...]] = ("model", "reference")

    learning_rate: Annotated[float, Meta(gt=0)] = 1e-6
    """The largest learning rate, reached at the end of the warm-up."""
    loss: Loss = "dpo"
    """``dpo``, ``ipo``, ``copg`` (whose rows need a ``margin``), ``simpo``, ``cpo`` or ``orpo`` of pairs;
    ``kto`` or ``bco`` of labelled answers, for which a pair is a wanted and an unwanted one."""
    beta: Annotated[float, Meta(gt=0)] | None = None
    """How strongly the model is held to the reference (``simpo`` and ``cpo``: the scale of the difference;
    ``orpo``: the weight of the odds ratio). ``null`` for 2 in ``simpo`` and 0.1 in all others."""
    gamma_ratio: Annotated[float, Meta(ge=0)] = 0.5
    """``simpo``: by how much the chosen side's mean log-probability per token must lead (gamma / beta)."""
    nll: Annotated[float, Meta(ge=0)] = 0.0
    """How much of the chosen side's negative log-likelihood per token is added (arXiv 2404.19733)."""
    flip: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    """The probability that a pair's label is the wrong way round, for rows that do not say their own:
    ``dpo``, ``simpo`` and ``cpo`` only."""
    offset: Annotated[float, Meta(ge=0)] = 0.0
    """``dpo``: the chosen side must lead by this times the row's ``margin`` (arXiv 2402.10571)."""
    optimism: Annotated[float, Meta(ge=0)] = 0.0
    """``dpo``: SELM's alpha (arXiv 2405.19332), the weight of beta times the log-ratio of what the reference
    said itself, which are both sides where the model of the round before was sampled; 0 for none."""
    wanted_weight: Annotated[float, Meta(gt=0)] = 1.0
    """``kto``: the weight of wanted answers."""
    unwanted_weight: Annotated[float, Meta(gt=0)] = 1.0
    """``kto``: the weight of unwanted answers."""
    from_difference: bool = False
    """Whether the tokens with which both sides begin carry no loss (MCTS-DPO, arXiv 2405.00451). Turns that
    both begin with never do. It changes only losses that count tokens, and ``nll``."""
    reference: Annotated[str, Meta(min_length=1)] | None = None
    """A folder with the weights of the reference; ``null`` for the model as it is before the first step."""

    @property
    def scale(self) -> float:
        """``beta``, or its default."""
        return self.beta if self.beta is not None else 2.0 if self.loss == "simpo" else 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flip and self.loss not in ("dpo", "simpo", "cpo"):
            raise RecipeError(f"flip: {self.loss} does not use it.", remedy="Choose dpo, simpo or cpo.")
        if self.optimism and self.loss != "dpo":
            raise RecipeError(f"optimism: {self.loss} does not use it.", remedy="Choose dpo.")
        if self.nll and self.loss in _LABELS:
            raise RecipeError(f"nll: {self.loss} has no chosen side.", remedy="Choose a loss of pairs.")
        if self.reference and self.loss in _FREE:
            raise RecipeError(f"reference: {self.loss} uses none.", remedy="Leave it out.")


OPTIONS = PreferenceTraining


def train(options: PreferenceTraining) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``."""
    return run_training(options, _prepared)


def _prepared(options: PreferenceTraining) -> Prepared:
    from gristmill.train.base.comparing import trainer_of

    tokenizer = tokenizer_of(options)
    rows, too_long = _examples(options, tokenizer)
    reference = None
    if options.reference is not None:
        reference = language_model(options, options.reference)
    model = language_model(options)
    if options.lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters(options.lora, model))
    trainer = trainer_of(
        partial(row_losses, options),
        model,
        rows,
        arguments(options, len(rows)),
        processing_class=tokenizer,
        callbacks=[history(options)],
        measured=options.loss == "kto",
    )
    if options.loss not in _FREE:
        trainer.set_reference(reference)
    own = [side for row in rows for side in row["sides"][: 1 if options.loss in _LABELS else 2]]
    tokens = sum(len(side.input_ids) for side in own)
    trained = sum(label != IGNORED for side in own for label in side.labels)
    return Prepared(trainer, len(rows), too_long, tokens, trained)


def row_losses(o: PreferenceTraining, trainer: Any, sums: Any, counts: Any, batch: dict[str, Any]) -> Any:
    """The losses of a batch's rows, of shape (rows,); ``sums`` of log-probabilities and ``counts`` of tokens
    are (sides, rows)."""
    beta, flip, wanted = o.scale, batch["flip"], batch["wanted"]
    ratios, means = sums - batch["reference"], sums / counts
    if o.loss in _LABELS:
        rewards = beta * ratios[0]
        trainer.note(chosen_reward=rewards[wanted], rejected_reward=rewards[~wanted])
        if o.loss == "bco":
            return losses.bco(ratios[0], wanted, trainer.running_mean(rewards), beta)
        divergence = losses.divergence_of(trainer.gathered(ratios[1]))
        return losses.kto(ratios[0], wanted, divergence, beta, (o.wanted_weight, o.unwanted_weight))
    if o.loss == "dpo":
        found = losses.dpo(ratios[0], ratios[1], beta, flip, batch["offset"])
        found = found + losses.optimism(ratios.mean(0), beta, o.optimism)
    elif o.loss == "copg":
        found = losses.copg(ratios[0], ratios[1], batch["offset"], beta)
    elif o.loss == "ipo":
        found = losses.ipo(ratios[0] / counts[0], ratios[1] / counts[1], beta)
    elif o.loss == "simpo":
        found = losses.simpo(means[0], means[1], beta, o.gamma_ratio, flip)
    elif o.loss == "cpo":
        found = losses.cpo(sums[0], sums[1], beta, flip)
    else:
        found = losses.orpo(means[0], means[1], beta)
    chosen, rejected = beta * (means if o.loss in ("simpo", "orpo") else ratios)
    trainer.note(chosen_reward=chosen, rejected_reward=rejected)
    trainer.note(accuracy=(chosen > rejected).float(), margin=chosen - rejected)
    return found - o.nll * means[0]


def _examples(options: PreferenceTraining, tokenizer: Any) -> tuple[list[dict[str, Any]], int]:
    """What the trainer takes: of pairs both sides, of labelled answers one (for ``kto`` with an answer to
    another prompt). Rows that are too long are listed in ``rejected.jsonl``; returns their number too."""
    from jinja2.exceptions import TemplateError

    kept: list[tuple[int, ComparedRow, list[TokenSide]]] = []
    long: list[dict[str, object]] = []
    for number, row in read_sides(Path(options.data)):
        _suits(options, row, number)
        try:
            made = answers(row, tokenizer, from_difference=options.from_difference)
        except (ValueError, TypeError, TemplateError) as error:
            raise cannot_render(options.model, options.data, number, error) from error
        longest = max(len(answer.tokens.input_ids) for answer in made)
        if longest > options.max_length:
            long.append({"row": number, "tokens": longest})
        else:
            kept.append((number, row, made))
    write_rejected(options.output, long)
    if not kept:
        raise InputError(
            f"all {len(long)} rows are longer than {options.max_length} tokens.",
            path=options.data,
            remedy="Raise max_length, or export other rows.",
        )
    if options.loss not in _LABELS:
        return [_example(options, row, [a.tokens for a in made], True) for _, row, made in kept], len(long)
    labelled: list[dict[str, Any]] = []
    for at, (number, row, sides) in enumerate(kept):
        other = _other(kept, at, options, tokenizer, number) if options.loss == "kto" else []
        labelled += [_example(options, row, [side.tokens, *other], side.wanted) for side in sides]
    return labelled, len(long)


def _example(
    options: PreferenceTraining, row: ComparedRow, sides: list[TokenRow], wanted: bool
) -> dict[str, Any]:
    flip = options.flip if row.flip is None else row.flip
    return {
        "sides": sides,
        "wanted": wanted,
        "weight": row.weight,
        "flip": flip,
        "offset": row.margin if options.loss == "copg" else options.offset * row.margin,
        "reference": [0.0] * len(sides),
    }


def _other(
    kept: Sequence[tuple[int, ComparedRow, list[TokenSide]]],
    at: int,
    options: PreferenceTraining,
    tokenizer: Any,
    number: int,
) -> list[TokenRow]:
    """The row's prompt with the next row's answer to another prompt, for KTO's divergence."""
    prompt = kept[at][1].prompt
    later = (kept[(at + n) % len(kept)][1] for n in range(1, len(kept)))
    found = next(
        (r for r in later if r.prompt != prompt and isinstance(r.prompt, str) == isinstance(prompt, str)),
        None,
    )
    if found is None:
        raise InputError(
            "kto compares with answers to other prompts, and all rows have the same.",
            path=options.data,
            row=number,
            remedy="Give rows of several prompts, or choose the loss bco.",
        )
    return [put(prompt, found.sides[0], tokenizer)]


def _suits(options: PreferenceTraining, row: ComparedRow, number: int) -> None:
    """``InputError`` for a row that the loss cannot use."""
    problem = ""
    if row.label is not None and row.chosen is None and options.loss not in _LABELS:
        problem, remedy = f"it has one labelled answer, and {options.loss} compares two.", "kto or bco"
    elif row.flip and options.loss not in ("dpo", "simpo", "cpo"):
        problem, remedy = f"its flip is {row.flip:g}, which {options.loss} does not use.", "dpo, simpo or cpo"
    elif options.loss == "copg" and not row.margin:
        raise InputError(
            "it has no margin, the difference of the sides' rewards, which copg needs.",
            path=options.data,
            row=number,
            remedy="Write rows with 'gristmill export' as trl-reward, or choose another loss.",
        )
    if problem:
        raise InputError(problem, path=options.data, row=number, remedy=f"Choose the loss {remedy}.")
