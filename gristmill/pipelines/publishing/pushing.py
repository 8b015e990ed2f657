"""``gristmill push``: the rows of a run or file as a data set of the Hub, in one commit.

What stands on ``main`` is always one whole set: nothing of a push is there before all of it is. What is there
already is never replaced unless asked for; rows can be added by shards of their own.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import InputError
from gristmill.pipelines.publishing.card import CARD, card
from gristmill.pipelines.publishing.croissant import CROISSANT, croissant
from gristmill.pipelines.publishing.facts import RunFacts, facts_of
from gristmill.pipelines.publishing.guarding import refuse_keys
from gristmill.pipelines.publishing.hub import MAIN, Hub, PushedFile, PushError, Remote
from gristmill.pipelines.publishing.manifest import MANIFEST, Manifest, PushEntry, decode, entries
from gristmill.pipelines.publishing.measures import measured
from gristmill.pipelines.publishing.tables import (
    SHARD_BYTES,
    PushTable,
    Shard,
    refuse_unknown,
    shards,
    tables_of,
)
from gristmill.pipelines.recipe.entries import Card
from gristmill.pipelines.rundir.results import Run

Mode = Literal["new", "append", "overwrite"]
_SHOWN = 5


class Pushed(Struct, frozen=True):
    """What a push did, or would do: files with their bytes, and rows by configuration and split.

    ``commit`` and ``tag`` are empty for a dry run. ``present``: all of it was there before.
    """

    repo: str
    files: dict[str, int]
    rows: dict[str, dict[str, int]]
    removed: tuple[str, ...] = ()
    commit: str = ""
    tag: str = ""
    present: bool = False
    card: str = ""
    """The text of README.md."""


class _Set(Struct, frozen=True):
    """A push before it is known what is in the repository."""

    tables: Sequence[PushTable]
    shards: Sequence[Shard]
    facts: RunFacts
    recipe: PushedFile | None
    entry: PushEntry


def push(
    what: Run | Path,
    repo: str,
    *,
    mode: Mode = "new",
    private: bool = True,
    stages: Sequence[str] = (),
    split: str | None = None,
    card_keys: Mapping[str, Any] | None = None,
    tag: str | None = None,
    allow_keys: bool = False,
    shard_bytes: int = SHARD_BYTES,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Put the rows of a run, or of a file, into the data set repository ``repo``.

    ``mode`` is ``new`` for an empty repository, ``append`` to add shards to what pushes have put there, and
    ``overwrite`` to replace that. ``stages``, ``split``: see ``tables_of``. ``card_keys`` take the place of
    those of the recipe's ``card``. ``tag`` is by default made of the files. ``dry_run`` asks the Hub nothing.

    Raises ``PushError`` for what the Hub refuses or already holds, ``InputError`` for rows that cannot go up
    (a key in them, a split without a name, no row at all), ``RunError`` and ``RecipeError``.
    """
    if isinstance(what, Run):
        refuse_unknown(what, stages)
    with tempfile.TemporaryDirectory(prefix="gristmill-push-") as folder:
        hub = None if dry_run else Hub(repo)
        head, before = "", dict[str, Remote]()
        if hub is not None:
            hub.create(private=private)
            head = hub.refs()[0][MAIN]
            before = hub.files(head)
        former = _former(hub, head) if hub is not None and MANIFEST in before else None
        described = former.described if former is not None and mode == "append" else None
        name = hub.repo if hub is not None else repo
        made = _set(what, name, Path(folder), stages, split, card_keys, described, shard_bytes)
        manifest, files = _files(made, _manifest(former, made, mode), what)
        refuse_keys(files, allow_forms=allow_keys)
        done = _pushed(name, files, made)
        if hub is None:
            return done
        _refuse(name, mode, before, former, files)
        gone = sorted(_held(former) - _held(manifest))
        landed = hub.land(
            files,
            head=head,
            before=before,
            removed=gone,
            message=f"{'Add' if mode == 'append' else 'Publish'} {made.entry.of}: {made.entry.rows:,} rows",
            tag=tag,
            say=say,
        )
        return replace(
            done, removed=tuple(gone), commit=landed.commit, tag=landed.tag, present=landed.present
        )


def _set(
    what: Run | Path,
    repo: str,
    folder: Path,
    stages: Sequence[str],
    split: str | None,
    card_keys: Mapping[str, Any] | None,
    described: Card | None,
    shard_bytes: int,
) -> _Set:
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/datasets/{repo}"
    facts = facts_of(what, repo, url, card_keys, described)
    tables = tables_of(what, folder, stages=stages, split=split)
    made = [shard for table in tables for shard in shards(table, folder / "shards", most=shard_bytes)]
    if not sum(shard.rows for shard in made):
        raise InputError(
            "there is no row to push.",
            path=facts.name,
            remedy="Look at 'gristmill show' for why rows were rejected.",
        )
    recipe = None
    if facts.recipe_text:
        data = facts.recipe_text.encode()
        mark = hashlib.sha256(data).hexdigest()[:8]
        recipe = PushedFile.of(f"recipes/{facts.name}-{mark}.yaml", data)
    summary = facts.summary
    entry = PushEntry(
        facts.name,
        entries(made),
        recipe.path if recipe else "",
        tuple(facts.models),
        summary.seed if summary else None,
        summary.source if summary else "",
    )
    return _Set(tables, made, facts, recipe, entry)


def _former(hub: Hub, head: str) -> Manifest:
    """What earlier pushes have put there."""
    return decode(hub.content(MANIFEST, head), hub.repo)


def _manifest(former: Manifest | None, made: _Set, mode: Mode) -> Manifest:
    """The manifest that is to be there after the push.

    A push that stands there as the last is given once more: it is put in its own place.
    """
    kept = former.pushes if former is not None else ()
    if mode != "append":
        kept = ()
    elif kept and kept[-1].files == made.entry.files:
        kept = kept[:-1]
    configs = {file.config for push in kept for file in push.files.values()}
    columns = {c: held for c, held in former.columns.items() if c in configs} if former is not None else {}
    return Manifest(kept, columns).with_push(made.entry, made.shards)


def _files(made: _Set, manifest: Manifest, what: Run | Path) -> tuple[Manifest, list[PushedFile]]:
    """The manifest with what is known now, and all files of the push."""
    run = what if isinstance(what, Run) else None
    measures = {table.config: measured(table, run) for table in made.tables}
    text = PushedFile.of(CARD, card(made.facts, manifest, made.tables, measures))
    manifest = replace(manifest, card=text.blob, described=made.facts.card)
    beside = [
        text,
        PushedFile.of(CROISSANT, croissant(made.facts, manifest)),
        PushedFile.of(MANIFEST, manifest.encode()),
        *([made.recipe] if made.recipe else []),
    ]
    return manifest, [*beside, *(shard.file for shard in made.shards)]


def _refuse(
    repo: str,
    mode: Mode,
    before: Mapping[str, Remote],
    former: Manifest | None,
    files: Sequence[PushedFile],
) -> None:
    """Raise ``PushError`` for what would be replaced without being asked for."""
    same = all(file.path in before and before[file.path].same_as(file) for file in files)
    if mode == "overwrite" or same or not before:
        return
    if mode == "new":
        shown = ", ".join(sorted(before)[:_SHOWN])
        raise PushError(
            f"{repo} holds {len(before):,} files already: {shown}{' ...' if len(before) > _SHOWN else ''}",
            remedy="Add these rows to it with --append, replace what is there with --overwrite, or choose "
            "another repository.",
        )
    if former is None:
        raise PushError(
            f"{repo} holds files that no push put there, so rows cannot be added to it.",
            remedy="Choose another repository, or replace files of the same names with --overwrite.",
        )
    if CARD in before and before[CARD].blob != former.card:
        raise PushError(
            f"{repo}: {CARD} was changed since the last push, and this push would write it anew.",
            remedy="Put what was changed into the recipe's 'card' or a --card file, then give --overwrite, "
            "or restore the card first.",
        )


def _held(manifest: Manifest | None) -> set[str]:
    """The files that pushes have put into a repository, the ones that each push writes anew left out."""
    if manifest is None:
        return set()
    return {*manifest.files, *(push.recipe for push in manifest.pushes if push.recipe)}


def _pushed(repo: str, files: Sequence[PushedFile], made: _Set) -> Pushed:
    rows: dict[str, dict[str, int]] = {}
    for shard in made.shards:
        splits = rows.setdefault(shard.config, {})
        splits[shard.split] = splits.get(shard.split, 0) + shard.rows
    text = next(file.held for file in files if file.path == CARD)
    assert isinstance(text, bytes)
    return Pushed(repo, {file.path: file.size for file in files}, rows, card=text.decode())
