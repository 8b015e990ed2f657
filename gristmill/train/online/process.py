"""PRIME's implicit process reward: a reward for every token, of a model that learns from outcomes alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.synth.step_values.implicit import Baseline, process_rloo, rloo, scaled
from gristmill.train.base.models import language_model
from gristmill.train.base.options import Training
from gristmill.train.reward_losses import outcome as outcome_loss

_STATE = "process_reward.pt"


class ImplicitReward(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The implicit process reward model of PRIME (arXiv 2502.01456), beside the verdicts.

    A token is worth beta * log(model / reference) (arXiv 2412.01981).
    """

    model: Annotated[str, Meta(min_length=1)] | None = None
    """A folder with the model, such as one of ``process_reward`` with ``head: implicit``; ``null`` for the
    weights with which the training begins."""
    reference: Annotated[str, Meta(min_length=1)] | None = None
    """The folder with its reference; ``null`` for the weights with which the training begins."""
    online: bool = True
    """Whether it learns from the outcomes of each batch of answers, before it rewards them; otherwise it
    stays as it is."""
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-6
    """The learning rate of its AdamW, which is constant."""
    beta: Annotated[float, Meta(gt=0)] = 0.05
    """The factor of the log-ratio."""
    weight: Annotated[float, Meta(gt=0)] = 5.0
    """What its rewards count against the verdict. 5 is the value of the authors' code."""
    baseline: Baseline = "leave_one_out"
    """What is subtracted from a token's reward: the mean of the other answers, or what the authors' code
    computes, ``prime``."""

    def __post_init__(self) -> None:
        if not self.online and self.model is None:
            raise RecipeError(
                "process_reward: a model that does not learn is needed, and none is given.",
                remedy="Name one: process_reward.model=DIR, or let it learn: online: true.",
            )


def token_advantages(
    scores: Sequence[Sequence[float]],
    outcomes: Sequence[float | None],
    weight: float = 5.0,
    baseline: Baseline = "leave_one_out",
) -> list[list[float]]:
    """The advantages of the tokens of a group's answers, one list for each.

    A_t = weight * (sum from t to the end of the scaled scores less their baseline) + (outcome less the mean
    of the other outcomes), Eq. 5 of PRIME (arXiv 2502.01456) with gamma 1, and the scale and weight of the
    authors' code; the whitening over the batch, which that code adds, is left out. An answer whose outcome
    is ``None`` gets 0 and takes no part in the others'; so do all where fewer than two are left.
    """
    known = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    made = [[0.0] * len(row) for row in scores]
    if len(known) < 2:
        return made
    whole = rloo([outcome for outcome in outcomes if outcome is not None])
    dense = process_rloo(scaled([scores[i] for i in known]), baseline)
    for i, own, row in zip(known, whole, dense, strict=True):
        ahead = list(accumulate(reversed(row)))[::-1]
        made[i] = [weight * reward + own for reward in ahead]
    return made


class ProcessModel:
    """The model, its reference and its optimiser."""

    def __init__(self, training: Training, options: ImplicitReward, device: Any, chunk: int) -> None:
        import torch

        self.options, self.chunk = options, chunk
        self.reference = language_model(training, options.reference).eval().to(device)
        self.model = language_model(training, options.model).eval().to(device)
        for parameter in self.reference.parameters():
            parameter.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, weight_decay=0.0
        )

    def advantages(
        self, batch: dict[str, Any], outcomes: Sequence[float | None], size: int
    ) -> tuple[Any, float | None]:
        """Advantages ``[answers, tokens]`` of a batch of TRL in groups of ``size``, and the mean loss of what
        was learnt from it (``None`` where nothing was)."""
        import torch

        said = batch["completion_mask"] * batch.get("tool_mask", 1)
        with torch.no_grad():
            known = torch.cat([_chances(self.reference, batch, part) for part in self._parts(len(outcomes))])
        loss = self._learn(batch, known, said, outcomes) if self.options.online else None
        with torch.no_grad():
            ours = torch.cat([_chances(self.model, batch, part) for part in self._parts(len(outcomes))])
        ratios = self.options.beta * (ours - known)
        rows = [r[m.bool()].tolist() for r, m in zip(ratios, said, strict=True)]
        made = torch.zeros_like(ratios)
        for at in range(0, len(rows), size):
            group = slice(at, at + size)
            found = token_advantages(rows[group], outcomes[group], self.options.weight, self.options.baseline)
            for i, numbers in enumerate(found, at):
                made[i, said[i].bool()] = torch.tensor(numbers, device=made.device)
        return made, loss

    def _learn(
        self, batch: dict[str, Any], known: Any, said: Any, outcomes: Sequence[float | None]
    ) -> float | None:
        """One step by the mean cross-entropy of sigmoid(beta * log-ratio of the answer) with its outcome: the
        update of the reward model in PRIME, of the answers that are decided."""
        import torch

        decided = sum(outcome is not None for outcome in outcomes)
        if not decided:
            return None
        total = 0.0
        for part in self._parts(len(outcomes)):
            given = [i for i, outcome in enumerate(outcomes[part], part.start) if outcome is not None]
            if not given:
                continue
            # The whole part goes through the model, so that memory does not depend on what is decided.
            ratios = ((_chances(self.model, batch, part) - known[part]) * said[part]).sum(-1)
            labels = torch.tensor([float(outcomes[i] or 0.0) for i in given], device=ratios.device)
            mine = ratios[[i - part.start for i in given]]
            loss = outcome_loss(mine, labels, self.options.beta).sum() / decided
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _parts(self, count: int) -> list[slice]:
        return [slice(at, min(at + self.chunk, count)) for at in range(0, count, self.chunk)]

    def save(self, folder: str) -> None:
        """Write what it has learnt into the folder of a checkpoint."""
        import torch

        if self.options.online:
            state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            torch.save(state, Path(folder) / _STATE)

    def load(self, folder: str) -> None:
        """Take up what ``save`` wrote."""
        import torch

        if self.options.online:
            state = torch.load(Path(folder) / _STATE, map_location=self.model.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])


def _chances(model: Any, batch: dict[str, Any], part: slice) -> Any:
    """The log-probabilities ``[answers, tokens]`` of the completions in a part of TRL's batch."""
    import torch

    ids = torch.cat([batch["prompt_ids"][part], batch["completion_ids"][part]], 1)
    mask = torch.cat([batch["prompt_mask"][part], batch["completion_mask"][part]], 1)
    said = batch["completion_ids"][part]
    width = said.shape[1]
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1]
    return torch.log_softmax(logits.float(), -1).gather(2, said[..., None])[..., 0]
