"""The options that every kind of engine has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from gristmill.core.engine import Engine

NONE = "none"
"""The kind of the engine of a recipe that names none; see ``gristmill.engines.none``."""


class EngineOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many requests an engine gets at a time, and how failed requests are retried.

    Each kind of engine is a subclass that adds its own options and ``open``. The subclass is what a plug-in
    registers in the entry point group ``gristmill.engines``. All times are in seconds.
    """

    pacing: ClassVar[frozenset[str]] = frozenset()
    """Options of a subclass that change how fast it answers but never what it answers, as all options of
    this class do."""

    price_share: ClassVar[float] = 1.0
    """The share of its model's price that this kind of engine pays: half for the file-based batches."""

    concurrency: Annotated[int, Meta(ge=1)] = 64
    """The largest number of requests in flight at one time; at least 1."""
    initial_concurrency: Annotated[int, Meta(ge=1)] | None = None
    """The number of requests in flight at the start; ``null`` starts at ``concurrency``."""
    tries: Annotated[int, Meta(ge=1)] = 6
    """How many times a request is sent before its row is rejected; at least 1."""
    request_timeout: Annotated[float, Meta(gt=0)] = 600.0
    """Seconds that one try may take. A server that asks for a longer wait stops the run, as does one that
    answers nothing for twice this time."""
    backoff: Annotated[float, Meta(ge=0)] = 0.5
    """Seconds to wait after the first failed try; the wait doubles after each further failure. The actual
    wait is drawn from the upper half of this time, so that clients do not retry together."""
    max_backoff: Annotated[float, Meta(ge=0)] = 30.0
    """The longest wait in seconds between two tries, before the server's own ``Retry-After`` is added."""
    requests_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """The most requests to send in a minute, spread evenly; ``null`` for no limit. What the server itself
    says of its limits is kept to in any case."""
    tokens_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """The most tokens of prompts and answers together in a minute; ``null`` for no limit."""
    max_error_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """A share in (0, 1]: the run stops when more than this share of the last 200 tries failed."""

    @property
    def self_paced(self) -> bool:
        """Whether the engine itself decides how many requests run at a time, up to ``concurrency``."""
        return False

    @abstractmethod
    def open(self) -> Engine:
        """The engine that these options describe, to be used as ``async with``. No request is sent yet."""
        raise NotImplementedError


ReasoningInText = Literal["split", "begun", "keep"]
ReasoningAs = Literal["reasoning_content", "reasoning", "tags"]
FinishMeaning = Literal["stop", "length", "content_filter", "tool_calls", "refusal", "other", "error"]
"""What the name of a finish reason means. ``error``: there is no answer, and the request is sent again."""


class ReadingOptions(EngineOptions, frozen=True, kw_only=True):
    """How the answers of a model are read; for engines that sample from one."""

    reasoning_in_text: ReasoningInText = "split"
    """What is done with reasoning in the text, between a model's own tags (``<think>``, ``[THINK]``,
    ``◁think▷``, ``<seed:think>``). ``split`` takes the blocks at its beginning for the completion's
    reasoning, and so all up to a closing tag that nothing opened. ``begun``: the chat template opens the
    block, so that a text without a closing tag is all reasoning. ``keep`` leaves it in the text. A turn that
    is continued stays as it is. Where it is not ``split`` it is part of the log's key."""
    reasoning_as: ReasoningAs = "reasoning_content"
    """How the reasoning of earlier turns is sent where a stage keeps it: in a field of this name, or in the
    turn's text between ``<think>`` tags."""
    finish_reasons: dict[str, FinishMeaning] = field(default_factory=dict)
    """What further names of finish reasons mean, or names of the built-in table in another way, such as
    ``{finished: stop}``. Case does not count."""

    @property
    def reading(self) -> str:
        """What of these options the model's identity has to name: nothing at their defaults."""
        return "" if self.reasoning_in_text == "split" else f" reasoning_in_text={self.reasoning_in_text}"


class ServedOptions(ReadingOptions, frozen=True, kw_only=True):
    """What a server may send; for engines that ask servers of others. An answer beyond a limit rejects its
    row and is not asked for again. How deep its JSON may be nested is the decoder's own limit."""

    most_body_mb: Annotated[float, Meta(gt=0)] = 64.0
    """The longest body of an answer in MiB. A longer one is cut off while it is read, so that a request never
    holds more than this."""
    most_choices: Annotated[int, Meta(ge=1)] = 1024
    """The most choices of one answer; of as many as that, those beyond the number asked for are ignored."""
    most_answer_chars: Annotated[int, Meta(ge=1)] = 1_000_000
    """The longest answer in characters, its reasoning included."""
