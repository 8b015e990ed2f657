"""Which loop a folder is of, and what of a loop may still be changed there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from gristmill.core.errors import RunError
from gristmill.core.files import write_whole
from gristmill.pipelines.loops.options import Loop

CLAIM = "loop.json"
"""The file that says what loop, and which seed, a folder is of."""
_WHOLE = ("name", "model", "seed", "like", "precision")
"""Keys on which everything in a folder depends."""


def claim(folder: Path, loop: Loop, seed: int) -> None:
    """Mark the folder as this loop's, or refuse it as one of another.

    More rounds and other measures do not make another loop, and neither do other settings of a
    step that no round has done yet: a typing error that stopped the loop can be put right.
    Raises ``RunError``.
    """
    plain = msgspec.to_builtins(replace(loop, rounds=1, seeds=1, seed=seed, measures={}))
    new = msgspec.json.decode(msgspec.json.encode(plain))
    known = folder / CLAIM
    if known.exists():
        old = msgspec.json.decode(known.read_bytes())
        if done := _done(folder):
            _refuse_other(folder, old, new, done)
    write_whole(known, msgspec.json.format(msgspec.json.encode(new)))


def _done(folder: Path) -> dict[str, str]:
    """The steps that are done, each with the first round that has done it."""
    found: dict[str, str] = {}
    for place in sorted(folder.glob("round-*/done.json"), key=lambda p: int(p.parent.name[6:])):
        for name in msgspec.json.decode(place.read_bytes()).get("made", {}):
            found.setdefault(name, place.parent.name)
    return found


def _refuse_other(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], done: Mapping[str, str]
) -> None:
    if key := next((key for key in _WHOLE if old.get(key) != new[key]), None):
        raise RunError(
            f"{folder} belongs to a loop with another {key}: {old.get(key)!r} rather than {new[key]!r}.",
            remedy="Choose another folder with --out, or remove this one.",
        )
    kept = {step["name"]: step for step in old["steps"]} | {"evaluate": old["evaluate"]}
    wanted = {step["name"]: step for step in new["steps"]} | {"evaluate": new["evaluate"]}
    changed = [name for name in done if kept.get(name) != wanted.get(name)]
    steps = [step["name"] for step in new["steps"]]
    before = [name for name in steps if name in done]
    late = steps if (folder / "round-2").exists() else steps[: len(before)]
    changed += [name for name in late if name not in done]  # would be done after steps that build on it
    if not changed:
        return
    name = changed[0]
    first = done.get(name, "round-1")
    raise RunError(
        f"{folder} belongs to a loop with other steps: {first} is done with another {name!r}, or without it.",
        remedy=f"Put {name!r} back; or remove {folder / first} and the rounds after it, which are then done "
        "again; or choose another folder with --out.",
    )
