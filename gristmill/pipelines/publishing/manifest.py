"""``pushes.json``: what each push has put into a repository, so that a later one can add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.version import __version__
from gristmill.pipelines.publishing.hub import PushError
from gristmill.pipelines.publishing.tables import Shard
from gristmill.pipelines.recipe.entries import Card

MANIFEST = "pushes.json"


class ShardEntry(Struct, frozen=True):
    """A Parquet file: the configuration and split that it belongs to, its rows, bytes and hash."""

    config: str
    split: str
    rows: int
    size: int
    sha256: str


class PushEntry(Struct, frozen=True):
    """One push: the run or file it was of, and its files by their paths."""

    of: str
    files: dict[str, ShardEntry]
    recipe: str = ""
    """The path of the recipe in the repository; empty for a file that was pushed."""
    models: tuple[str, ...] = ()
    seed: int | None = None
    source: str = ""
    """The fingerprint of the input."""
    gristmill: str = __version__

    @property
    def rows(self) -> int:
        """All of its rows."""
        return sum(file.rows for file in self.files.values())


class Manifest(Struct, frozen=True):
    """All pushes into a repository, the first one first."""

    pushes: tuple[PushEntry, ...] = ()
    columns: dict[str, dict[str, Any]] = {}
    """By configuration, what its columns hold."""
    described: Card = Card()
    """What the last push was told to say in the card; a further push says it too."""
    card: str = ""
    """The git hash of the README.md that the last push wrote, by which a change by hand is told."""
    format: int = 1

    @property
    def files(self) -> dict[str, ShardEntry]:
        """The files of all pushes."""
        return {path: file for push in self.pushes for path, file in push.files.items()}

    @property
    def configs(self) -> dict[str, dict[str, int]]:
        """By configuration and split, the number of rows."""
        found: dict[str, dict[str, int]] = {}
        for file in self.files.values():
            splits = found.setdefault(file.config, {})
            splits[file.split] = splits.get(file.split, 0) + file.rows
        return found

    def with_push(self, push: PushEntry, shards: Sequence[Shard]) -> Manifest:
        """This with a further push. ``PushError`` where a configuration that is there has other columns."""
        columns = dict(self.columns)
        for shard in shards:
            there = columns.setdefault(shard.config, shard.columns)
            if there != shard.columns:
                differ = sorted(_differ(there, shard.columns))
                raise PushError(
                    f"the rows of {shard.config!r} have other columns than those in the repository: "
                    f"{', '.join(differ)}.",
                    remedy="Push them into a repository of their own, or replace what is there with "
                    "--overwrite.",
                )
        return replace(self, pushes=(*self.pushes, push), columns=columns)

    def encode(self) -> bytes:
        """The file's bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}


def entries(shards: Sequence[Shard]) -> dict[str, ShardEntry]:
    """The files of shards, by their paths."""
    return {s.file.path: ShardEntry(s.config, s.split, s.rows, s.file.size, s.file.sha256) for s in shards}


def decode(data: bytes, repo: str) -> Manifest:
    """The manifest of a repository. ``PushError`` for one that cannot be read."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise PushError(
            f"{repo}: {MANIFEST} cannot be read: {error}.",
            remedy="A newer Gristmill may have written it; else replace all with --overwrite.",
        ) from error
