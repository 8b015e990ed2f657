"""Reference sets: the items that must not be in a corpus, as texts or as hashes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.filters.contamination.tokens import pieces, plain
from gristmill.filters.words import hashes, series
from gristmill.verifiers.math.extract import last_box

if TYPE_CHECKING:
    import polars as pl

SHIPPED = Path(__file__).parents[2] / "data" / "contamination"
_TEXT = ("problem", "question", "Question", "text", "prompt", "input")
_ANSWER = ("answer", "final_answer", "expected_answer", "ground_truth", "target", "solution", "reward_model")
_ID = ("id", "idx", "unique_id", "name")
_ANSWER_WORD = re.compile(r"\\[a-z]+|\d[\d,]*(?:\.\d+)?|\.\d+|[^\W\d_]+|[^\w\s,;:.!?$]")
_LONGEST_ANSWER = 100
"""Characters of an answer; a longer text without a box is a solution, of which nobody knows what it says."""
_HASHED = frozenset(["item", "length", "words", "function", "numbers", "grams", "answer"])


class ReferenceItem(Struct, frozen=True):
    """One item of a reference set, as 32-bit hashes; ``text`` is empty for a set that came as hashes.

    ``words`` are its words without numbers, ``function`` those of them that tell nothing, ``numbers`` its
    numbers as often as they occur, ``grams`` its runs of ``SIZE`` words with any number for any other, and
    ``answer`` its answer in the one notation, 0 where there is none.
    """

    name: str
    length: int
    words: frozenset[int]
    function: frozenset[int]
    numbers: tuple[int, ...]
    grams: frozenset[int]
    answer: int = 0
    text: str = ""
    gold: str = ""


def items(
    texts: Sequence[str], names: Sequence[str], answers: Sequence[str | None]
) -> Iterator[ReferenceItem]:
    """The items of these texts; those that have no words are left out."""
    at = 0
    for piece in pieces(series(texts)):
        for text in range(len(piece.texts)):
            own, gold = piece.span(text), answers[at] or ""
            word, number = piece.word[own], piece.number[own]
            if len(word):
                yield ReferenceItem(
                    names[at],
                    len(word),
                    frozenset(word[~number].tolist()),
                    frozenset(word[piece.function[own]].tolist()),
                    tuple(sorted(word[number].tolist())),
                    frozenset(piece.grams[piece.gram_span(text)].tolist()),
                    answer_hash(gold),
                    texts[at],
                    gold,
                )
            at += 1


def bare(answer: str) -> str:
    """An answer without what stands before it: what follows ``####`` as in GSM8K, and without ``$``."""
    return answer.rsplit("####", 1)[-1].strip().strip("$").strip()


def answer_hash(answer: str) -> int:
    """The hash of an answer in the one notation, in [1, 2^32); 0 where there is none."""
    words = [plain(word)[0] for word in _ANSWER_WORD.findall(bare(answer).lower())]
    return (int(hashes(["\x1f".join(words)])[0]) >> 32) or 1 if any(words) else 0


def load(references: Iterable[str]) -> list[ReferenceItem]:
    """The items of reference sets: names of shipped ones, files, and folders of files or of ``datasets``.

    ``RecipeError`` for one that is not there, or in which no text is found.
    """
    found: list[ReferenceItem] = []
    for reference in references:
        found += _load(reference)
    return found


def _load(reference: str) -> list[ReferenceItem]:
    path = Path(reference)
    shipped = SHIPPED / f"{reference}.parquet"
    if not path.exists():
        if shipped.exists():
            path = shipped
        else:
            known = sorted(p.stem for p in SHIPPED.glob("*.parquet"))
            raise RecipeError(
                f"decontaminate: references: {reference!r} is neither a file nor a shipped set.",
                remedy=f"{suggest(reference, known)} Or give the path of a file or folder.",
            )
    if path.is_dir():
        return [item for table, name in _folder(path) for item in _items(table, name)]
    return _items(_table(path), path.stem)


def _folder(path: Path) -> Iterator[tuple[pl.DataFrame | _Rows, str]]:
    import polars as pl

    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        import datasets

        loaded = datasets.load_from_disk(str(path))
        parts = loaded.items() if isinstance(loaded, dict) else [("", loaded)]
        for split, part in parts:
            table = pl.from_arrow(part.data.table)
            assert isinstance(table, pl.DataFrame)
            yield table, f"{path.name}/{split}".rstrip("/")
        return
    files = sorted(p for p in path.rglob("*") if p.suffix in _READERS)
    if not files:
        raise RecipeError(
            f"decontaminate: references: the folder {str(path)!r} has no file to read.",
            remedy=f"Give one with files that end in {', '.join(_READERS)}, or of a saved data set.",
        )
    for file in files:
        yield _table(file), file.stem


_READERS = {".jsonl": "", ".json": "", ".csv": "read_csv", ".parquet": "read_parquet"}
_Rows = list[dict[str, Any]]


def _table(path: Path) -> pl.DataFrame | _Rows:
    import polars as pl

    reader = _READERS.get(path.suffix)
    if reader is None:
        raise RecipeError(
            f"decontaminate: references: {path.name!r} is of a kind that cannot be read.",
            remedy=f"Give a file that ends in {', '.join(_READERS)}.",
        )
    try:
        if reader:
            table: pl.DataFrame = getattr(pl, reader)(path)
            return table
        return list(_objects(path))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise RecipeError(
            f"decontaminate: references: {path.name!r} cannot be read: {error}", remedy="Correct the file."
        ) from error


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON file, whatever types their values have from row to row."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        found = json.loads(text)
        rows = list(enumerate(found if isinstance(found, list) else [found], start=1))
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                rows += [(number, json.loads(line))] if line.strip() else []
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from error
    for number, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is not an object")
        yield row


def _items(table: pl.DataFrame | _Rows, name: str) -> list[ReferenceItem]:
    if isinstance(table, list):
        columns, rows = list(dict.fromkeys(key for row in table for key in row)), table
    else:
        columns = table.columns
        if set(columns) == _HASHED:
            return [_from_row(row) for row in table.iter_rows(named=True)]
        read = {*_TEXT, *_ANSWER, *_ID, "choices"}
        rows = table.select(column for column in columns if column in read).to_dicts()
    text = next((c for c in _TEXT if any(_asked(row.get(c)) for row in rows)), None)
    if text is None:
        raise RecipeError(
            f"decontaminate: references: {name!r} has no column of texts.",
            remedy=f"Name it one of {', '.join(_TEXT)}. Its columns are: {', '.join(columns)}.",
        )
    answer = next((column for column in _ANSWER if column in columns), "")
    key = next((column for column in _ID if column in columns), "")
    texts = []
    for row in rows:
        choices = row.get("choices")
        said = map(str, choices if isinstance(choices, list) else ())
        texts.append("\n".join([_asked(row.get(text)), *said]))
    names = [
        f"{name}/{number if row.get(key) is None else row[key]}" for number, row in enumerate(rows, start=1)
    ]
    return list(
        items(
            _without_instructions(texts), names, [_said(row.get(answer), row.get("choices")) for row in rows]
        )
    )


def _without_instructions(texts: list[str]) -> list[str]:
    """The texts without lines that most of them have, such as "Let's think step by step": prompts of trainers
    repeat what they ask for in every item. Sets of fewer than ten, and what would be empty, stay."""
    lines = [text.splitlines() for text in texts]
    seen = Counter(line.strip() for own in lines for line in dict.fromkeys(own))
    same = {line for line, count in seen.items() if len(texts) >= 10 and 2 * count > len(texts)}
    if not same - {""}:
        return texts
    kept = ["\n".join(line for line in own if line.strip() not in same) for own in lines]
    return [own if own.strip() else text for own, text in zip(kept, texts, strict=True)]


def _asked(value: Any) -> str:
    """A text, or what the user says in a list of messages."""
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, dict) and turn.get("role") == "user"]
        return "\n".join(str(turn.get("content") or "") for turn in turns)
    return value if isinstance(value, str) else ""


def _said(value: Any, choices: Any = None) -> str | None:
    """An answer as text: the only one of a list, what a worked solution has in its last box, or the choice
    that is meant by a number from 0 or a letter; verl's is in ``reward_model``."""
    if isinstance(value, dict):
        value = value.get("ground_truth")
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(choices, list):
        at = "ABCDEFGHIJ".find(value) if isinstance(value, str) and len(value) == 1 else value
        if isinstance(at, int) and 0 <= at < len(choices):
            return str(choices[at])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return None
    text = str(value)
    if (boxed := last_box(text)) is not None:
        return boxed
    return text if len(bare(text)) <= _LONGEST_ANSWER else None


def save_hashed(found: Iterable[ReferenceItem], path: Path) -> None:
    """Write items without their texts, as hashes; ``load`` reads the file."""
    import polars as pl

    rows = [
        (i.name, i.length, i.answer, sorted(i.words), sorted(i.function), list(i.numbers), sorted(i.grams))
        for i in found
    ]
    columns: dict[str, Any] = {"item": pl.String, "length": pl.UInt32, "answer": pl.UInt32}
    columns |= dict.fromkeys(("words", "function", "numbers", "grams"), pl.List(pl.UInt32))
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    frame.write_parquet(path, compression="zstd", compression_level=19)


def _from_row(row: dict[str, Any]) -> ReferenceItem:
    words, function, grams = (frozenset(row[name]) for name in ("words", "function", "grams"))
    return ReferenceItem(
        row["item"], row["length"], words, function, tuple(row["numbers"]), grams, row["answer"]
    )
