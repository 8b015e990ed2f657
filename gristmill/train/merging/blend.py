"""The loss of a weighted sum of models on rows, and its slopes, by which shares are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gristmill.core.errors import InputError
from gristmill.train.base.rows import IGNORED, TokenRow, encode, read_rows
from gristmill.train.extras import need
from gristmill.train.merging.averaging import Shares
from gristmill.train.merging.checkpoints import Checkpoint, agreement, read
from gristmill.train.merging.tensors import numbers


class Blend:
    """Models of one architecture in memory as 32-bit numbers, and one more that is their weighted sum.

    ``folders`` are the models, ``longest`` the most tokens of a row (a longer one is refused). Dropout is
    off and rows are taken in the order of their file, so that equal shares give equal losses. Raises
    ``MissingExtraError`` without torch and transformers, ``InputError`` and ``RecipeError`` as ``merge``.
    """

    def __init__(
        self, folders: Sequence[Path], *, batch: int = 8, longest: int = 1024, gpu: bool = True
    ) -> None:
        need("torch", "transformers")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        models = [read(folder) for folder in folders]
        self.notes = agreement(models)
        self._folder, self._batch, self._longest = folders[0], batch, longest
        self._device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folders[0], local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32, local_files_only=True)
        self._model = model.to(self._device).eval()
        self._parameters = dict(self._model.named_parameters())
        self._weights = [
            {name: self._loaded(of, name, p.shape) for name, p in self._parameters.items()} for of in models
        ]
        self.layers: int = model.config.num_hidden_layers

    def _loaded(self, model: Checkpoint, name: str, shape: Any) -> Any:
        import torch

        stored = model.find(name)
        if stored is None:
            raise InputError(
                f"it has no tensor {name}, which the architecture needs.",
                path=str(model.folder),
                remedy="Save the model with the version of transformers that is installed here.",
            )
        return torch.from_numpy(numbers(stored)).float().reshape(shape).to(self._device)

    def rows(self, file: Path) -> list[TokenRow]:
        """The rows of a file (``trl-sft``, ``trl-prompt-completion``, ``text``) as tokens."""
        from jinja2.exceptions import TemplateError

        found = []
        for number, row in read_rows(file):
            try:
                tokens = encode(row, self._tokenizer)
            except (ValueError, TypeError, TemplateError) as error:
                raise InputError(
                    f"the chat template of {self._folder} cannot render it: {error}.",
                    path=str(file),
                    row=number,
                    remedy="Use rows of text, or a first model whose chat template supports them.",
                ) from error
            if len(tokens.input_ids) > self._longest:
                raise InputError(
                    f"it has {len(tokens.input_ids):,} tokens, and the limit is {self._longest:,}.",
                    path=str(file),
                    row=number,
                    remedy="Leave it out, or raise --longest.",
                )
            found.append(tokens)
        if not found:
            raise InputError("it has no rows.", path=str(file), remedy="Give rows that carry loss.")
        return found

    def loss(self, shares: Shares, rows: Sequence[TokenRow]) -> float:
        """The mean loss of a trained token, in nats, of the sum of the models with these shares."""
        import torch

        self._mix(shares)
        with torch.no_grad():
            return sum(float(part) for part in self._parts(rows))

    def slopes(
        self, shares: Shares, rows: Sequence[TokenRow], of: Callable[[str], int | None]
    ) -> tuple[float, dict[int | None, float]]:
        """The loss, and how it changes per unit of share moved from the second model to the first.

        One slope for each group that ``of`` gives to names: the gradient times the difference of the two
        models, summed over the group's numbers.
        """
        self._mix(shares)
        self._model.zero_grad(set_to_none=True)
        loss = 0.0
        for part in self._parts(rows):
            part.backward()
            loss += float(part.detach())
        found: dict[int | None, float] = {}
        for name, parameter in self._parameters.items():
            step = (parameter.grad * (self._weights[0][name] - self._weights[1][name])).sum()
            found[of(name)] = found.get(of(name), 0.0) + float(step)
        return loss, found

    def _mix(self, shares: Shares) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parts = [w[name] * s for w, s in zip(self._weights, shares(name), strict=True) if s]
                parameter.copy_(sum(parts) if parts else torch.zeros_like(parameter))

    def _parts(self, rows: Sequence[TokenRow]) -> Any:
        """The loss of each batch, as its part of the mean over all trained tokens."""
        import torch

        trained = sum(label != IGNORED for row in rows for label in row.labels[1:])
        for at in range(0, len(rows), self._batch):
            chosen = rows[at : at + self._batch]
            width = max(len(row.input_ids) for row in chosen)
            ids = torch.zeros(len(chosen), width, dtype=torch.long)
            labels = torch.full((len(chosen), width), IGNORED)
            seen = torch.zeros(len(chosen), width, dtype=torch.long)
            for i, row in enumerate(chosen):
                count = len(row.input_ids)
                ids[i, :count], labels[i, :count] = torch.tensor(row.input_ids), torch.tensor(row.labels)
                seen[i, :count] = 1
            logits = self._model(input_ids=ids.to(self._device), attention_mask=seen.to(self._device)).logits
            yield torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(),
                labels[:, 1:].flatten().to(self._device),
                ignore_index=IGNORED,
                reduction="sum",
            ) / max(trained, 1)
