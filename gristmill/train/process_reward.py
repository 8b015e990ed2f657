"""Process reward models: solutions with values of their steps in, a model that values steps out.

Three heads. ``classification``: a token classification model with the classes bad and good. ``words``: a
causal model, of which two words are compared as the token after a step tag (ER-PRM, arXiv 2412.11006; Math-
Shepherd, arXiv 2312.08935). ``implicit``: a causal model trained on outcomes alone, whose steps are worth
beta * log(model / reference) (arXiv 2412.01981). ``docs/training-process-reward.md`` says how each is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.train import reward_losses as losses
from gristmill.train.base.conversations import padded, template_of
from gristmill.train.base.models import language_model, tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.plain import Batch, Loss, plain_trainer, short_enough
from gristmill.train.base.rows import IGNORED
from gristmill.train.base.running import Prepared, run_training
from gristmill.train.base.stepwise import (
    OutcomeRow,
    Steps,
    answered,
    one_token,
    read_outcomes,
    read_steps,
)


class ProcessRewardTraining(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process reward model.

    Rows are those of ``prm-rows`` and ``trl-stepwise``, with ``head: implicit`` those of ``trl-kto``. Steps
    are written as the scorer ``process_reward`` writes them: without the space around them, each with ``tag``
    behind it, as one answer to the prompt. Only the tags carry loss, every tag of a step the same amount.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    models: ClassVar[tuple[str, ...]] = ("model", "reference")

    head: Literal["classification", "words", "implicit"] = "classification"
    """``classification``: two classes at each tag. ``words``: ``good`` against ``bad`` as the token after
    each tag. ``implicit``: outcomes alone, no tags."""
    tag: Annotated[str, Meta(min_length=1)] | None = None
    """What stands behind every step, one token of the model; ``null`` for ``<extra_0>``, which is added to
    the vocabulary where the model does not have it."""
    good: Annotated[str, Meta(min_length=1)] = "+"
    """``words``: the token that calls a step good."""
    bad: Annotated[str, Meta(min_length=1)] = "-"
    """``words``: the token that calls a step bad."""
    add_tokens: bool = False
    """Whether a ``tag``, ``good`` or ``bad`` that is several tokens is added to the vocabulary. With ``lora``
    the embedding of an added token stays as it was made."""
    kind: str | None = None
    """Which kind of label of ``prm-rows`` is trained, such as ``soft``; ``null`` for the first row's."""
    beta: Annotated[float, Meta(gt=0)] = 0.05
    """``implicit``: the factor of the log-ratio; the default is the paper's."""
    reference: Annotated[str, Meta(min_length=1)] | None = None
    """``implicit``: the folder of the reference model; ``null`` for ``model``."""


OPTIONS = ProcessRewardTraining
_TAG = "<extra_0>"


def train(options: ProcessRewardTraining) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``."""
    return run_training(options, _outcomes if options.head == "implicit" else _steps)


def _steps(options: ProcessRewardTraining) -> Prepared:
    """The trainer of a head that values the steps at their tags."""
    tokenizer = tokenizer_of(options)
    template_of(options, tokenizer)
    tag = options.tag or _TAG
    one_token(tokenizer, tag, "tag", options.add_tokens or options.tag is None)
    words = [
        one_token(tokenizer, word, name, options.add_tokens)
        for name, word in (("bad", options.bad), ("good", options.good))
        if options.head == "words"
    ]
    if words and words[0] == words[1]:
        raise RecipeError("good and bad are the same token.", remedy="Choose two that differ.")
    read = read_steps(options, tokenizer, tag, options.kind)
    rows, too_long = short_enough(options, ((number, len(row.tokens), row) for number, row in read))
    model = language_model(options) if words else _classifier(options)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    task = "CAUSAL_LM" if words else "TOKEN_CLS"
    trainer = plain_trainer(options, model, tokenizer, rows, _tagged(tokenizer), _valued(words), task)
    tokens = sum(len(row.tokens) for row in rows)
    return Prepared(trainer, len(rows), too_long, tokens, sum(len(row.places) for row in rows))


def _classifier(options: ProcessRewardTraining) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    classes = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    config = AutoConfig.from_pretrained(options.model, local_files_only=True, **classes)
    config.classifier_dropout = 0.0  # the head sees the whole of the one state that it is given
    model = AutoModelForTokenClassification.from_pretrained(
        options.model, config=config, dtype=torch.float32, local_files_only=True
    )
    model.config.use_cache = False
    return model


def _tagged(tokenizer: Any) -> Callable[[list[Steps]], Batch]:
    import torch

    def collate(rows: list[Steps]) -> Batch:
        """``rows`` and ``places`` say where the tags are, one number for each of them in the batch."""
        return {
            **padded([row.tokens for row in rows], tokenizer.pad_token_id),
            "rows": torch.tensor([i for i, row in enumerate(rows) for _ in row.places]),
            "places": torch.tensor([place for row in rows for place in row.places]),
            "values": torch.tensor([value for row in rows for value in row.values]),
            "items": sum(len(row.places) for row in rows),
        }

    return collate


def _valued(words: list[int]) -> Loss:
    """The cross-entropy at the tags: of two classes, or of two ``words`` as the token after a tag."""

    def loss(model: Any, batch: Batch) -> tuple[Any, dict[str, float]]:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits = logits[batch["rows"], batch["places"]].float()
        logits = logits[:, words] if words else logits
        values = batch["values"]
        each = losses.two_class(logits, values)
        right = (logits[:, 1] > logits[:, 0]) == (values > 0.5)
        return each.sum(), {"accuracy": float(right.float().mean())}

    return loss


def _outcomes(options: ProcessRewardTraining) -> Prepared:
    """The trainer of an implicit process reward model. The reference reads each answer once, beforehand."""
    tokenizer = tokenizer_of(options)
    template_of(options, tokenizer)
    read = read_outcomes(options, tokenizer)
    rows, too_long = short_enough(options, ((number, len(row.tokens.input_ids), row) for number, row in read))
    model = language_model(options)
    known = _reference(options, tokenizer, rows)
    items = list(zip(rows, known, strict=True))
    trainer = plain_trainer(
        options, model, tokenizer, items, _labelled(tokenizer), _outcome(options.beta), "CAUSAL_LM"
    )
    tokens = sum(len(row.tokens.input_ids) for row in rows)
    return Prepared(trainer, len(rows), too_long, tokens, sum(answered(row.tokens) for row in rows))


def _reference(options: ProcessRewardTraining, tokenizer: Any, rows: list[OutcomeRow]) -> list[float]:
    """The log-probability of each answer under the reference, each read on its own."""
    import torch

    model = language_model(options, options.reference).eval()
    if options.gpu and torch.cuda.is_available():
        model = model.cuda()
    collate = _labelled(tokenizer)
    found = []
    with torch.inference_mode():
        for row in rows:
            batch = {k: v.to(model.device) for k, v in collate([(row, 0.0)]).items() if k != "items"}
            found.append(float(_likelihood(model, batch)[0]))
    return found


def _labelled(tokenizer: Any) -> Callable[[list[tuple[OutcomeRow, float]]], Batch]:
    import torch

    def collate(items: list[tuple[OutcomeRow, float]]) -> Batch:
        batch = padded([row.tokens.input_ids for row, _ in items], tokenizer.pad_token_id)
        width = batch["input_ids"].shape[1]
        labels = [[*row.tokens.labels, *[IGNORED] * (width - len(row.tokens.labels))] for row, _ in items]
        return {
            **batch,
            "answers": torch.tensor(labels),
            "right": torch.tensor([float(row.right) for row, _ in items]),
            "known": torch.tensor([known for _, known in items]),
            "items": len(items),
        }

    return collate


def _likelihood(model: Any, batch: Batch) -> Any:
    """The sum of the log-probabilities of each answer's tokens."""
    import torch

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    wanted = batch["answers"][:, 1:]
    chances = torch.log_softmax(logits.float(), -1).gather(2, wanted.clamp(min=0)[..., None])[..., 0]
    return (chances * (wanted != IGNORED)).sum(-1)


def _outcome(beta: float) -> Loss:
    def loss(model: Any, batch: Batch) -> tuple[Any, dict[str, float]]:
        ratio = _likelihood(model, batch) - batch["known"]
        right = (ratio > 0) == (batch["right"] > 0)
        return losses.outcome(ratio, batch["right"], beta).sum(), {"accuracy": float(right.float().mean())}

    return loss
