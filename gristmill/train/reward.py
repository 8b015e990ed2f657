"""Reward models: pairs, ties or answers with scores in, a sequence classification model out.

The folder is one that ``AutoModelForSequenceClassification`` loads, and so the engine ``transformers-reward``
and vLLM (``vllm serve OUT/model --runner pooling``). The reward is read at the conversation's last token.

TRL's RewardTrainer is not used: it knows margins, but no weights, chances of a wrong label, ties, attributes
or terms on hidden states, and it decides by the first row of a batch whether there are margins at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.train import reward_losses as losses
from gristmill.train.base.compared import RewardedPair, ScoredRow, read_compared, read_scored
from gristmill.train.base.conversations import padded, spare_padding, template_of
from gristmill.train.base.models import tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.plain import Batch, Loss, plain_trainer, short_enough
from gristmill.train.base.running import Prepared, run_training


class Reward(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reward model by Bradley and Terry from pairs, or by regression from answers with scores.

    Rows are those of ``trl-dpo``, ``trl-dpo-weighted`` (``weight`` and ``flip`` are used), ``trl-reward``
    (``margin`` is used) and ``ties``; with ``attributes`` those of ``scored-answers``. A step takes ``batch``
    pairs or answers.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    files: ClassVar[tuple[str, ...]] = ("data", "ties")

    ties: Annotated[str, Meta(min_length=1)] | None = None
    """A further JSON lines file with ties, as the export ``ties`` writes them; ``null`` for none. Ties can
    be in ``data`` too."""
    tie_weight: Annotated[float, Meta(ge=0)] = 1.0
    """What the loss of a tie counts against that of a pair (Crome's lambda, arXiv 2506.16507)."""
    centre: Annotated[float, Meta(ge=0)] = 0.0
    """The coefficient of (reward of one side + reward of the other)^2, which keeps rewards around 0 (arXiv
    2312.09244; 0.01 is common)."""
    goal_weight: Annotated[float, Meta(ge=0)] = 0.0
    """The coefficient of the goal-conditioned contrastive term on hidden states of pairs (arXiv 2407.13887):
    an earlier state of the chosen answer is to be like a later one and unlike one of the rejected answer.
    Which tokens are taken, behind what both have in common, is decided once by a hash of row and seed."""
    attributes: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    """Names of scores: the model gets an output for each, trained by regression. Empty for one reward from
    pairs."""
    begun: bool = False
    """``attributes``: whether the number is trained after every token of an answer, and not at its end alone,
    so that it is the value of a text that is only begun (VAS, arXiv 2405.06639). The answers should then be
    samples of the model that the value is to guide."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.begun and not self.attributes:
            raise RecipeError(
                "begun: only regression is trained after every token.", remedy="Name the score in attributes."
            )
        if self.attributes and (self.ties or self.centre or self.goal_weight):
            raise RecipeError(
                "attributes: regression has no pairs, to which ties, centre and goal_weight belong.",
                remedy="Leave those out, or train on pairs without attributes.",
            )


OPTIONS = Reward


def train(options: Reward) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``."""
    return run_training(options, _prepared)


def _prepared(options: Reward) -> Prepared:
    tokenizer = tokenizer_of(options)
    template_of(options, tokenizer)
    spare_padding(tokenizer)
    rows, too_long = _rows(options, tokenizer)
    model = _model(options, tokenizer)
    collate = _answers(tokenizer) if options.attributes else _pairs(tokenizer)
    loss: Loss = _comparison(options)
    if options.attributes:
        loss = _values if options.begun else _regression
    trainer = plain_trainer(options, model, tokenizer, rows, collate, loss, "SEQ_CLS")
    tokens = sum(map(_length, rows))
    return Prepared(trainer, len(rows), too_long, tokens, _judged(rows, options.begun))


def _model(options: Reward, tokenizer: Any) -> Any:
    """The model with a new head, or its own where it has one of the right size."""
    import torch
    from transformers import AutoModelForSequenceClassification

    names = options.attributes or ("reward",)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        # Servers put no sigmoid over the numbers of a regression.
        problem_type="regression",
        dtype=torch.float32,
        local_files_only=True,
    )
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def _rows(options: Reward, tokenizer: Any) -> tuple[list[Any], int]:
    read: list[tuple[int, Any]] = []
    if options.attributes:
        read += read_scored(options, tokenizer, Path(options.data), options.attributes)
    else:
        for path in filter(None, (options.data, options.ties)):
            read += read_compared(options, tokenizer, Path(path))
    return short_enough(options, ((number, _longest(row), row) for number, row in read))


def _longest(row: RewardedPair | ScoredRow) -> int:
    return len(row.tokens) if isinstance(row, ScoredRow) else max(len(row.first), len(row.second))


def _length(row: RewardedPair | ScoredRow) -> int:
    return len(row.tokens) if isinstance(row, ScoredRow) else len(row.first) + len(row.second)


def _judged(rows: Sequence[RewardedPair | ScoredRow], begun: bool) -> int:
    """How many tokens a loss is read at: the last one of each conversation, or all of an answer."""
    if begun:
        return sum(len(row.tokens) - row.prompt for row in rows if isinstance(row, ScoredRow))
    return sum(1 if isinstance(row, ScoredRow) else 2 for row in rows)


def _pairs(tokenizer: Any) -> Callable[[list[RewardedPair]], Batch]:
    import torch

    def collate(rows: list[RewardedPair]) -> Batch:
        """All first sides, then all second ones."""
        batch = padded([r.first for r in rows] + [r.second for r in rows], tokenizer.pad_token_id)
        for name in ("margin", "weight", "flip", "tie"):
            batch[name] = torch.tensor([float(getattr(row, name)) for row in rows])
        batch["places"] = torch.tensor([row.places or (-1, -1, -1) for row in rows])
        return {**batch, "items": len(rows)}

    return collate


def _answers(tokenizer: Any) -> Callable[[list[ScoredRow]], Batch]:
    import torch

    def collate(rows: list[ScoredRow]) -> Batch:
        batch = padded([row.tokens for row in rows], tokenizer.pad_token_id)
        batch["targets"] = torch.tensor([row.targets for row in rows])
        batch["prompt"] = torch.tensor([row.prompt for row in rows])
        return {**batch, "items": len(rows)}

    return collate


def _comparison(options: Reward) -> Loss:
    def loss(model: Any, batch: Batch) -> tuple[Any, dict[str, float]]:
        out = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            output_hidden_states=options.goal_weight > 0,
        )
        chosen, rejected = out.logits.float()[:, 0].chunk(2)
        difference, tie = chosen - rejected, batch["tie"] > 0
        each = losses.bradley_terry(difference, batch["margin"], batch["flip"])
        each = each.where(~tie, options.tie_weight * losses.no_preference(difference))
        each = each + options.centre * losses.centred(chosen, rejected)
        if options.goal_weight:
            each = each + options.goal_weight * _goal_term(
                out.hidden_states[-1].float(), batch["places"], tie
            )
        pairs = int((~tie).sum())
        measures = {"margin": float(difference[~tie].sum() / pairs)} if pairs else {}
        if pairs:
            measures["accuracy"] = float((difference[~tie] > 0).sum() / pairs)
        return (batch["weight"] * each).sum(), measures

    return loss


def _goal_term(hidden: Any, places: Any, tie: Any) -> Any:
    """The contrastive loss of each pair; 0 for ties and for answers that are too short for it."""
    import torch

    count = len(places)
    rows = torch.arange(count, device=hidden.device)
    first, second = hidden[:count], hidden[count:]
    at = places.clamp(min=0)
    states = first[rows, at[:, 0]], first[rows, at[:, 1]], second[rows, at[:, 2]]
    return losses.goal_conditioned(*states) * ((places[:, 0] >= 0) & ~tie)


def _regression(model: Any, batch: Batch) -> tuple[Any, dict[str, float]]:
    outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
    each = losses.regression(outputs, batch["targets"])
    return each.sum(), {"error": math.sqrt(float(each.detach().mean()))}


def _values(model: Any, batch: Batch) -> tuple[Any, dict[str, float]]:
    """Regression after each token of the answers: every return of one is its final score (a discount of 1,
    and no bootstrapping). The loss of an answer is the mean over its tokens."""
    import torch

    mask = batch["attention_mask"]
    hidden = model(
        input_ids=batch["input_ids"], attention_mask=mask, output_hidden_states=True
    ).hidden_states[-1]
    places = torch.arange(mask.shape[1], device=mask.device)
    said = (mask > 0) & (places >= batch["prompt"][:, None])
    rows, at = said.nonzero(as_tuple=True)
    outputs = getattr(model, "module", model).score(hidden[rows, at]).float()
    errors = losses.regression(outputs, batch["targets"][rows])
    each = errors.new_zeros(len(mask)).index_add(0, rows, errors) / said.sum(-1)
    return each.sum(), {"error": math.sqrt(float(each.detach().mean()))}
