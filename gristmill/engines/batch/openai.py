"""``kind: openai-batch``: OpenAI's Batch API, which other servers speak too.

A JSONL file of requests is uploaded with the purpose ``batch``, and a batch is created over it. Once it has
ended, the answers are in an output file and the failures in an error file, in any order, by ``custom_id``.
Source: OpenAI's guide and reference of the Batch API (``/v1/files``, ``/v1/batches``); also Microsoft's
reference of ``GET /openai/v1/batches``, and Together's and Cerebras' pages about the same protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import aiohttp
import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RequestRefusedError, RunStopped, TransientError
from gristmill.core.secrets import Secrets
from gristmill.engines.batch.engine import (
    CONCURRENCY,
    PRICE_SHARE,
    BatchEngine,
    Batching,
    Http,
    lines_of,
)
from gristmill.engines.batch.journal import Submitted
from gristmill.engines.openai.access import Access, keys_of
from gristmill.engines.openai.engine import OpenAI
from gristmill.engines.openai.failures import failure, snippet
from gristmill.engines.openai.options import ServerOptions
from gristmill.engines.openai.replies import Replies
from gristmill.engines.openai.requests import body_of

_ENDPOINT = "/v1/chat/completions"
_ENDED = frozenset({"completed", "expired", "cancelled"})
_TAG = "gristmill"
"""The key of a batch's metadata under which our own id is, to find a batch again."""
_PAGES = 10
"""Pages of a hundred batches that are looked through for one whose creation was not heard of."""


class OpenAIBatch(ServerOptions, frozen=True, kw_only=True):
    """OpenAI's Batch API, and servers that speak it: answers within a day, at half the price.

    Completions are kept under the same keys as those of ``kind: openai`` with the same options.
    """

    pacing: ClassVar[frozenset[str]] = ServerOptions.pacing | {"batch"}
    price_share: ClassVar[float] = PRICE_SHARE

    concurrency: Annotated[int, Meta(ge=1)] = CONCURRENCY
    """The most requests that wait for an answer at a time, which is the size that a batch can reach. About
    one and a half times as many rows are held in memory."""
    batch: Batching = Batching()
    """How requests become batches."""

    @property
    def self_paced(self) -> bool:
        """A batch's latency says nothing about how many requests the server can take."""
        return True

    def open(self) -> BatchEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or a key that cannot be used."""
        plain = OpenAI(**{name: getattr(self, name) for name in ServerOptions.__struct_fields__})
        single = plain.open()
        access = Access(self, keys_of(self.key_names))
        http = Http(self.base_url, access.secrets, access.pick()[1], self.request_timeout, access.query)
        dialect = OpenAIDialect(plain, access.secrets)
        return BatchEngine(self, http, dialect, single.model, single.abilities)


class _File(Struct):
    id: str


class _Batch(Struct):
    id: str
    status: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None
    metadata: dict[str, str] | None = None


class _Batches(Struct):
    data: list[_Batch]
    has_more: bool = False


class _Response(Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Result(Struct):
    response: _Response | None = None
    error: Any = None


class OpenAIDialect:
    """The protocol; see ``Dialect``."""

    def __init__(self, options: OpenAI, secrets: Secrets) -> None:
        self._options = options
        self._secrets = secrets
        self._replies = Replies(options, options.base_url)

    def line(self, custom_id: str, request: Request, sample: int) -> bytes:
        """A line of the input file."""
        if request.score or (request.prefix and self._options.continue_mode not in ("vllm", "prefill")):
            raise RequestRefusedError(
                "a batch cannot find out how a server continues a turn; set continue_mode to vllm or prefill"
            )
        mode = self._options.continue_mode if request.prefix else "none"
        body = body_of(self._options, request, sample, 1, mode)
        return msgspec.json.encode({"custom_id": custom_id, "method": "POST", "url": _ENDPOINT, "body": body})

    async def submit(self, http: Http, lines: Sequence[bytes], uid: str) -> str:
        """Upload the file and create the batch; our id is in its metadata."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field(
            "file", b"\n".join(lines) + b"\n", filename=f"{uid}.jsonl", content_type="application/jsonl"
        )
        file = await http.ask("POST", "/files", _File, form=form)
        asked = {
            "input_file_id": file.id,
            "endpoint": _ENDPOINT,
            "completion_window": "24h",
            "metadata": {_TAG: uid},
        }
        return (await http.ask("POST", "/batches", _Batch, json=msgspec.json.encode(asked))).id

    async def find(self, http: Http, batch: Submitted) -> str | None:
        """Look through the batches for our id."""
        after = ""
        for _ in range(_PAGES):
            page = await http.ask("GET", f"/batches?limit=100{after}", _Batches)
            for made in page.data:
                if (made.metadata or {}).get(_TAG) == batch.uid:
                    return made.id
            if not (page.has_more and page.data):
                break
            after = f"&after={page.data[-1].id}"
        return None

    async def ended(self, http: Http, batch: str) -> bool:
        """Whether it is completed, expired or cancelled, that is, has the results that it will have."""
        at = await http.ask("GET", f"/batches/{batch}", _Batch)
        if at.status == "failed":
            raise RunStopped(
                f"batch {batch} failed before it began: {snippet(str(at.errors))}.",
                remedy="Correct the engine's options, then run the same command again.",
            )
        return at.status in _ENDED

    async def results(self, http: Http, batch: str) -> dict[str, msgspec.Raw]:
        """The lines of the output file and of the error file."""
        at = await http.ask("GET", f"/batches/{batch}", _Batch)
        found: dict[str, msgspec.Raw] = {}
        for file in (at.error_file_id, at.output_file_id):
            if file:
                found |= lines_of(await http.send("GET", f"/files/{file}/content"))
        return found

    def completion(self, result: msgspec.Raw, request: Request) -> Completion:
        """The answer in a line, read as the same server's answer to a single request."""
        try:
            read = msgspec.json.decode(result, type=_Result)
        except msgspec.DecodeError as error:
            raise TransientError(f"a result cannot be read: {error}") from error
        if read.response is None:
            why = snippet(str(read.error))
            raise TransientError(f"the batch did not get to this request: {why}", congested=True)
        body = bytes(read.response.body)
        if read.response.status_code != 200:
            raise failure("the batch", self._secrets, read.response.status_code, {}, body)
        repeated = request.prefix if self._options.continue_mode == "prefill" else ""
        return self._replies.completions("the batch", body, request, 1, repeated)[0]
