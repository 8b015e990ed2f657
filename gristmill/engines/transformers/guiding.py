"""Another model that guides which token is drawn: by its chances of tokens, or by the values it gives texts.

The weights of the model that is asked stay as they are. What an engine does with it: ``docs/decoding.md``.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import EngineError
from gristmill.engines.weights import MODEL_FILES, folder_identity


class Guide(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that guides another one at each token; it has the same tokenizer."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory in the format of Transformers, or the name of a repository on the Hub."""
    by: Literal["tokens", "values"] = "tokens"
    """``tokens``: a causal language model whose log-probabilities are rewards of tokens (GenARM, arXiv
    2410.08193). ``values``: a sequence classifier with one output, the value of a text that is begun (VAS,
    arXiv 2405.06639)."""
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """How much the guide counts, 1 / beta in both papers; above 0."""
    top_k: Annotated[int, Meta(ge=1)] = 20
    """With ``values``: how many of the likeliest tokens are valued at each step; no other can be drawn."""

    @property
    def identity(self) -> str:
        """What the engine's identity has to name: the guide's weights and how they are used."""
        folder = Path(self.model)
        weights = folder_identity(folder, MODEL_FILES) if folder.is_dir() else self.model
        most = f" top_k={self.top_k}" if self.by == "values" else ""
        return f"guide={weights} by={self.by} weight={self.weight:g}{most}"


def guided_by_tokens(base: Any, guide: Any, weight: float) -> Any:
    """log pi(y) + weight log pi_r(y), where weight = 1 / beta: log-probabilities up to a constant (GenARM,
    arXiv 2410.08193), from logits of the shape (rows, tokens). Those of the guide may be padded to another
    number of tokens than the model's."""
    import torch

    chances = torch.log_softmax(guide.float(), dim=-1)
    missing = base.shape[-1] - chances.shape[-1]
    # A place of padding stands for no token; the model alone says that it is never drawn.
    chances = torch.nn.functional.pad(chances, (0, missing)) if missing > 0 else chances[:, : base.shape[-1]]
    return torch.log_softmax(base.float(), dim=-1) + weight * chances


def guided_by_values(base: Any, places: Any, values: Any, weight: float) -> Any:
    """log pi(y) + weight V(x, y), where weight = 1 / beta, of the tokens at ``places``, and -inf of all
    others (VAS, arXiv 2405.06639); ``base`` are logits of the shape (rows, tokens), ``places`` and ``values``
    have the shape (rows, candidates)."""
    import torch

    chances = torch.log_softmax(base.float(), dim=-1).gather(1, places)
    left = torch.full_like(base.float(), float("-inf"))
    return left.scatter(1, places, chances + weight * values.float())


class Follower:
    """A model that reads rows of tokens as they grow, each token once."""

    def __init__(self, model: Any, mask: Any, **reading: Any) -> None:
        """``mask`` says which of the first tokens are text and not padding; ``reading`` goes to each call."""
        self._model = model
        self._mask = mask
        self._reading = reading
        self._cache: Any = None
        self._seen = 0

    def read(self, ids: Any) -> Any:
        """The logits at the last of ``ids`` (rows, length), which begin with all that was read before: (rows,
        tokens) of a language model, (rows, outputs) of a classifier."""
        import torch

        grown = ids.shape[1] - self._mask.shape[1]
        self._mask = torch.cat([self._mask, self._mask.new_ones(ids.shape[0], grown)], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, self._seen :]
        made = self._model(
            input_ids=ids[:, self._seen :],
            attention_mask=self._mask,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            **self._reading,
        )
        self._cache = made.past_key_values
        self._seen = ids.shape[1]
        return made.logits if made.logits.dim() == 2 else made.logits[:, -1]

    def branched(self, count: int) -> Follower:
        """A follower of ``count`` copies of each row; this one stays where it is."""
        other = Follower(self._model, self._mask.repeat_interleave(count, dim=0), **self._reading)
        other._cache = copy.deepcopy(self._cache)
        other._cache.batch_repeat_interleave(count)
        other._seen = self._seen
        return other


class Guidance:
    """A logits processor that adds what a guide says, for one batch."""

    def __init__(self, guide: Guide, model: Any, mask: Any) -> None:
        self._guide = guide
        one = {"logits_to_keep": 1} if guide.by == "tokens" else {}
        self._follower = Follower(model, mask, **one)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The guided log-probabilities, up to a constant."""
        said = self._follower.read(input_ids)
        if self._guide.by == "tokens":
            return guided_by_tokens(scores, said, self._guide.weight)
        count = min(self._guide.top_k, scores.shape[-1])
        places = scores.topk(count, dim=-1).indices
        texts = input_ids.repeat_interleave(count, dim=0)
        values = self._follower.branched(count).read(_with(texts, places.reshape(-1, 1)))
        return guided_by_values(scores, places, values.view(-1, count), self._guide.weight)


def load_guide(guide: Guide, tokenizer: Any, arguments: dict[str, Any]) -> Any:
    """The guide's model. ``EngineError`` for one with other tokens, or with more than one value."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    if AutoTokenizer.from_pretrained(guide.model).get_vocab() != tokenizer.get_vocab():
        raise EngineError(
            f"guide: {guide.model!r} has other tokens than the model that it guides.",
            remedy="Give a guide with the tokenizer of the model, such as one that was trained from it.",
        )
    if guide.by == "tokens":
        return AutoModelForCausalLM.from_pretrained(guide.model, **arguments).eval()
    model = AutoModelForSequenceClassification.from_pretrained(guide.model, **arguments).eval()
    if model.config.num_labels != 1:
        raise EngineError(
            f"guide: {guide.model!r} has {model.config.num_labels} outputs, and a value is one.",
            remedy="Give a sequence classifier with num_labels 1, or 'by: tokens' for a language model.",
        )
    if model.config.pad_token_id is None:  # a classifier reads no batch without one
        model.config.pad_token_id = tokenizer.pad_token_id
    return model


def _with(texts: Any, tokens: Any) -> Any:
    import torch

    return torch.cat([texts, tokens], dim=1)
