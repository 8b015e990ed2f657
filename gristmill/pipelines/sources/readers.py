"""The files that a path names, and how each is opened: by the end of its name."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gristmill.core.errors import InputError
from gristmill.core.registry import suggest
from gristmill.pipelines.sources import columnar, text
from gristmill.pipelines.sources.splits import Opened, pieces
from gristmill.pipelines.sources.text import NoRowsError, Row

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_PACKED = (".gz", ".zst")
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
"""What a folder that ``datasets`` wrote has one of."""
_SPLIT = r"(?:^|[/._-])(?:{})(?=$|[/.-])"
"""A split's name in the name of a file or of its folder; ``train_sft`` is not ``train``."""
_USUAL = re.compile(_SPLIT.format(r"(?:train|test|validation|valid|val|dev|eval)(?:_\w+)?"))


def opened(
    path: str | None,
    dataset: str | None,
    config: str | None,
    split: str,
    max_chars: int,
    delimiter: str | None,
) -> Iterator[Opened]:
    """What a source reads, one file or split after the other, each opened when it is its turn.

    Raises ``InputError`` for what is not there or cannot be read.
    """
    for piece in pieces(split):
        if dataset is not None:
            yield from piece.of(lambda name=piece.name: iter([columnar.hub(dataset, config, name)]))  # type: ignore[misc]
        else:
            assert path is not None
            yield from piece.of(lambda name=piece.name: _all(path, name, max_chars, delimiter))  # type: ignore[misc]


def local(path: Path, split: str, max_chars: int) -> tuple[list[str] | None, Iterator[Row]]:
    """The columns (``None`` where the format has no header) and the rows of one file, or of one folder that
    ``datasets`` wrote."""
    one = columnar.saved(path, split) if path.is_dir() else _file(_there(path), max_chars, None)
    return one.header, one.rows


def files(path: str) -> list[Path]:
    """The files that a path names: itself, those of a folder, or those that match a pattern."""
    if Path(path).is_dir():
        return sorted(p for p in Path(path).rglob("*") if p.is_file())
    if not Path(path).exists() and glob.has_magic(path):
        names = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = sorted(p for name in names if (p := Path(name)).is_file())
        if not found:
            raise InputError("no file matches.", path=path, remedy="Check the pattern and the folder.")
        return found
    return [_there(Path(path))]


def is_saved(path: str) -> bool:
    """Whether the path is a folder that ``datasets`` wrote."""
    return any((Path(path) / name).is_file() for name in _SAVED)


def _all(path: str, split: str, max_chars: int, delimiter: str | None) -> Iterator[Opened]:
    if is_saved(path):
        yield columnar.saved(Path(path), split)
        return
    found = files(path)
    if Path(path).is_dir():
        found = _of_split(path, _data(path, found), split)
    empty = 0
    for file in found:
        try:
            one = _file(file, max_chars, delimiter)
        except NoRowsError:
            if len(found) == 1:
                raise
            empty += 1
        else:
            yield one
    if empty == len(found):
        raise NoRowsError(path)


def _data(path: str, found: Sequence[Path]) -> list[Path]:
    """The files of a folder that hold rows; all must be of one format."""
    kept = [
        p
        for p in found
        if _suffix(p) in _SUFFIXES and not any(part.startswith(".") for part in p.relative_to(path).parts)
    ]
    formats = sorted({_suffix(p) for p in kept})
    if not kept:
        raise InputError(
            f"the folder has no file of a known format ({', '.join(_SUFFIXES)}).",
            path=path,
            remedy="Give a file, a folder of files of one format, or a folder written by save_to_disk.",
        )
    if len(formats) > 1:
        raise InputError(
            f"the folder has files of several formats ({', '.join(formats)}).",
            path=path,
            remedy=f"Say which with a pattern: {path}/*{formats[-1]}.",
        )
    return kept


def _of_split(path: str, found: list[Path], split: str) -> list[Path]:
    """The files of a split, where files or folders are called after splits; else all for ``train``."""
    names = {p: p.relative_to(path).as_posix() for p in found}
    own = re.compile(_SPLIT.format(re.escape(split)))
    if kept := [p for p in found if own.search(names[p])]:
        return kept
    if split == "train" and not any(_USUAL.search(name) for name in names.values()):
        return found
    raise InputError(
        f"no file of the folder is called after the split {split!r}; there are: "
        f"{', '.join(list(names.values())[:10])}.",
        path=path,
        remedy="Give another 'split', or a pattern of files as the path.",
    )


def _there(path: Path) -> Path:
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        remedy = suggest(path.name, near) if near else f"There is no folder {str(path.parent)!r} either."
        raise InputError("there is no such file.", path=str(path), remedy=remedy)
    return path


def _suffix(path: Path) -> str:
    name = path.name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix.lower()


def _file(path: Path, max_chars: int, delimiter: str | None) -> Opened:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{suffix or 'no suffix'!r} is not a known format.",
            path=str(path),
            remedy=f"Known: {', '.join(_SUFFIXES)} (the text formats also with {' or '.join(_PACKED)}), "
            "folders of these, and 'datasets' folders.",
        )
    try:
        if path.stat().st_size == 0:
            raise InputError(
                "the file is empty.", path=str(path), remedy="Check what wrote it; it has 0 bytes."
            )
        path.open("rb").close()
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror}).", path=str(path)) from e
    limit = text.line_limit(max_chars)
    if suffix == ".parquet":
        return columnar.parquet(path)
    if suffix in (".csv", ".tsv"):
        return Opened(str(path), *text.table(path, limit, delimiter or ("\t" if suffix == ".tsv" else None)))
    return Opened(str(path), None, text.objects(path, limit))
