"""What servers have said of themselves, in a file beside the completion log: who answers under a model's
name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.files import write_whole
from gristmill.core.secrets import without_controls
from gristmill.engines.pace import Pace

_log = logging.getLogger(__name__)

_LONGEST = 200
_TELLING = (
    "id",
    "root",
    "parent",
    "owned_by",
    "max_model_len",
    "context_length",
    "quantization",
    "version",
    "meta",
)
"""Fields of an entry of ``/models`` that tell one model from another; others change with every answer."""


class Described(Struct, omit_defaults=True):
    """A server under a model's name: its entry in ``/models``, and what its answers report."""

    entry: dict[str, Any] = {}
    model: str = ""
    fingerprint: str = ""


class Server(Protocol):
    """An engine that asks a server which somebody else runs; ``EngineWrapper.server`` gives it."""

    @property
    def pace(self) -> Pace:
        """When requests may be sent to it."""
        ...

    async def meet(self, servers: Servers) -> None:
        """Compare the server with what is known of it, before anything of the log is used."""

    async def probe(self, needs: frozenset[Ability]) -> None:
        """Raise ``RecipeError`` if the server cannot do what stages need of it."""


class Servers:
    """The file. Its content is advice: where it cannot be read or written, nothing is compared."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, log: Path) -> Servers:
        """The file that belongs to a completion log."""
        return cls(log.with_suffix(".servers.json"))

    def of(self, model: str) -> dict[str, Described]:
        """The servers that have answered for ``model``, by their base URLs."""
        return self._read().get(model, {})

    def note(self, model: str, url: str, seen: Described) -> None:
        """Write down what a server says of itself now."""
        every = self._read()
        if every.setdefault(model, {}).get(url) == seen:
            return
        every[model][url] = seen
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(every, order="sorted")))
        except OSError as error:
            _log.info("%s cannot be written: %s.", self._path, error.strerror or error)

    def _read(self) -> dict[str, dict[str, Described]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, Described]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.info("%s cannot be read: %s.", self._path, error)
            return {}


def telling(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry of ``/models`` that are kept, as short texts."""
    return {
        name: without_controls(f"{entry[name]}")[:_LONGEST]
        for name in _TELLING
        if entry.get(name) is not None
    }


def another_address(model: str, urls: list[str], url: str) -> str:
    """What is said where the log's answers are those of another server."""
    return (
        f"The log's answers of {model} are from {', '.join(urls)}; this run asks {url}. They are used as "
        "answers of one model. If the weights differ, set 'revision' or 'weights' of the engine, which are "
        "part of the log's key."
    )


def another_model(model: str, url: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is said where a server describes a model otherwise than before."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    changes = ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)
    return (
        f"{url} describes {model} otherwise than when the log's answers were made: {changes}. If the weights "
        "have changed, set 'revision' or 'weights' of the engine, which are part of the log's key."
    )
