"""A model in this process: loading it, batches in a thread, conversations as tokens."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from gristmill.core.engine import Request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines.options import ReasoningAs
from gristmill.engines.reading import sent
from gristmill.engines.transformers.options import LocalModel


class _Waiting(NamedTuple):
    key: Hashable
    item: Any
    future: asyncio.Future[Any]


def _given_up(batch: Sequence[_Waiting], place: int) -> bool:
    return batch[place].future.done()


class LocalEngine:
    """A model that answers requests in batches: those with one key, at most ``batch`` at a time, in a thread.

    A subclass says how the model is loaded and what is computed of a batch.
    """

    def __init__(self, options: LocalModel) -> None:
        self._local = options
        self.model = options.identity
        self.concurrency = options.concurrency
        self._loaded: Any = None
        self.tokenizer: Any = None
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    @abstractmethod
    def load(self, arguments: dict[str, Any]) -> Any:
        """The model, loaded with these arguments of ``from_pretrained``."""

    @abstractmethod
    def compute(self, key: Any, items: Sequence[Any], given_up: Callable[[int], bool]) -> Sequence[Any]:
        """The results of a batch, in order; called in a thread, one at a time. ``given_up`` says of the item
        at a place whether nobody waits for it any more."""

    @property
    def room(self) -> int | None:
        """The most tokens of a conversation with its answer; ``None`` where the model has no limit."""
        if self._local.context is not None:
            return self._local.context
        most: int | None = getattr(self._loaded.config, "max_position_embeddings", None)
        return most

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._load)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            await asyncio.wait((self._worker,))  # a batch in a thread cannot be interrupted
        self._loaded = self.tokenizer = None

    def _load(self) -> None:
        import torch
        from transformers import AutoTokenizer

        options = self._local
        device = options.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        from_hub = {"trust_remote_code": options.trust_remote_code, "revision": options.revision or None}
        given = {k: v for k, v in from_hub.items() if v is not None}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(options.model, **given)
            self._loaded = self.load({**given, "dtype": options.dtype}).to(device).eval()
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            raise EngineError(
                f"Transformers cannot load {options.model}: {' '.join(str(error).split())[:400]}"
            ) from error
        if options.chat_template:
            self.tokenizer.chat_template = Path(options.chat_template).read_text(encoding="utf-8")
        if not self.tokenizer.chat_template:
            raise RecipeError(
                f"{options.model} has no chat template.", remedy="Give a file with one as 'chat_template'."
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._loaded.config.pad_token_id = self.tokenizer.pad_token_id

    async def ask(self, key: Hashable, item: Any) -> Any:
        """The result of ``item``, computed in a batch with others of its key. ``TransientError`` where the
        machine cannot compute it now (its memory is full)."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(key, item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await future
        except RuntimeError as error:  # torch raises it for memory that is full
            raise TransientError(f"{self._local.model}: {str(error)[:300]}", congested=True) from error

    async def _work(self) -> None:
        await asyncio.sleep(0)  # so that requests that are sent together are in one batch
        while self._waiting:
            self._waiting = [one for one in self._waiting if not one.future.done()]  # some were cancelled
            batch = [one for one in self._waiting if one.key == self._waiting[0].key][: self._local.batch]
            self._waiting = [one for one in self._waiting if one not in batch]
            if not batch:
                continue
            given_up = partial(_given_up, batch)
            run = asyncio.to_thread(self.compute, batch[0].key, [one.item for one in batch], given_up)
            computing = asyncio.ensure_future(run)
            await asyncio.wait((computing,))
            error = computing.exception()
            for place, one in enumerate(batch):
                if one.future.done():
                    continue
                if error is not None:
                    one.future.set_exception(error)
                else:
                    one.future.set_result(computing.result()[place])

    def tokens(self, request: Request, reasoning_as: ReasoningAs, *, continued: bool) -> list[int]:
        """The tokens of a conversation in the model's template: with ``request.prefix`` as the last turn,
        which is to be ``continued`` or is whole. ``RequestRefusedError`` for one that cannot be sent."""
        turns = [_templated(turn) for turn in sent(request.messages, reasoning_as)]
        if request.prefix:
            turns.append({"role": "assistant", "content": request.prefix})
        offered = {"tools": msgspec.json.decode(request.tools)} if request.tools else {}
        if offered and "tools" not in str(self.tokenizer.chat_template):
            raise RecipeError(
                f"{self._local.model}: the model's chat template takes no tools.",
                remedy="Set 'protocol: text' in the stage, or give a template that does as 'chat_template'.",
            )
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=not request.prefix,
                continue_final_message=bool(request.prefix) and continued,
                **offered,
                **self._local.chat_template_kwargs,
            )
        except Exception as error:  # of the template: Jinja's, or what it raises itself
            raise RequestRefusedError(f"{self._local.model}: the chat template refuses: {error}") from error
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        most = self.room
        if most is not None and len(found) > most:
            raise RequestRefusedError(
                f"{self._local.model}: {len(found)} tokens are longer than the context of {most}", own=True
            )
        return found

    def padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Any, Any]:
        """Rows of tokens as one tensor, and the mask that says which are padding."""
        import torch

        length = max(map(len, rows))
        ids = torch.full((len(rows), length), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for i, row in enumerate(rows):
            place = slice(length - len(row), length) if left else slice(0, len(row))
            ids[i, place] = torch.tensor(row)
            mask[i, place] = 1
        return ids.to(self._loaded.device), mask.to(self._loaded.device)


def _templated(turn: dict[str, Any]) -> dict[str, Any]:
    """A message as templates of the Hub take it: the arguments of its calls as objects, where they are."""
    for call in turn.get("tool_calls", ()):
        with contextlib.suppress(msgspec.DecodeError):
            call["function"]["arguments"] = msgspec.json.decode(call["function"]["arguments"])
    return turn
