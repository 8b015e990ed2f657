"""Problems from JSONL, CSV and Parquet files, ``datasets`` folders and the Hub, one row at a time.

Memory does not grow with the number of rows, but for 11 to 22 bytes a row to find duplicate ids. A row
that cannot be used becomes a ``Rejection``, and the rest goes on; a file that cannot be read at all raises
``InputError``. ``row`` is the line in a JSONL or CSV file on which the row begins, and the 1-based
number of the row elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.registry import suggest
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources import readers as rows
from gristmill.pipelines.sources.seen import Seen

Field = Literal["problem", "answer", "id", "level"]

# Where no column is named, the first of these that a row has.
_DEFAULTS: dict[Field, tuple[str, ...]] = {
    "problem": ("problem", "question", "prompt", "instruction", "text"),
    "answer": ("answer", "final_answer", "expected_answer"),
    "id": ("id", "unique_id", "uid", "problem_id"),
    "level": ("level", "difficulty"),
}
_PEEK = 100
"""Rows without the problem's column after which a JSONL file is given up (it has no header to ask)."""
_LEVEL = re.compile(r"(?:level\s*)?(-?\d{1,9})", re.IGNORECASE)


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the problems come from: a local ``path``, or a ``dataset`` of the Hub.

    ``path`` is a JSONL or CSV file (gzip allowed), a Parquet file, or a folder written by
    ``datasets`` (``save_to_disk``). ``columns`` maps the fields problem, answer, id and level to
    columns. All other columns go to ``Problem.meta``. A row without an id gets one from its text.

    ``answers``: with ``strict`` all answers of a source are text, or all are numbers, and a row of the
    other kind is refused; ``text`` reads every scalar as text. Numbers become text so that equal
    numbers are equal texts: 27 and 27.0 both become "27".
    ``answer_after``: the answer is what follows the last occurrence of this mark ("####" for GSM8K).
    ``max_chars``: a problem or an answer with more characters is refused.
    """

    path: str | None = None
    dataset: str | None = None
    config: str | None = None
    split: str = "train"
    columns: Annotated[
        dict[Field, str], Meta(extra_json_schema={"propertyNames": {"enum": list(_DEFAULTS)}})
    ] = {}
    answers: Literal["strict", "text"] = "strict"
    answer_after: Annotated[str, Meta(min_length=1)] | None = None
    max_chars: Annotated[int, Meta(ge=1)] = 100_000

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either 'path' or 'dataset', and not both")


def describe(source: Source) -> str:
    """The source in one line, for logs and messages."""
    if source.path is not None:
        return source.path
    return f"{source.dataset} ({', '.join(filter(None, (source.config, source.split)))})"


def read(source: Source) -> Iterator[Problem | Rejection]:
    """The rows of a source in order, each as a problem or as the reason why it cannot be used.

    Raises ``InputError`` for what cannot be read at all: nothing there, an empty file, no such column,
    or another format than the name says.
    """
    where = describe(source)
    header: list[str] | None
    if source.dataset is not None:
        header, found = rows.hub(source.dataset, source.config, source.split)
    else:
        header, found = rows.local(Path(where), source.split, source.max_chars)
    reader = _Reader(source, where)
    if header is not None:
        reader.check_header(header)
        return reader.convert(found)
    return reader.convert(reader.peek(found))


def fingerprint(source: Source) -> str:
    """What identifies the source's content: a hash of the bytes of a local file or folder.

    A data set of the Hub is identified by its name, configuration and split. Reads the whole file, at
    about a gigabyte a second. Raises ``InputError`` if it cannot be read.
    """
    if source.path is None:
        return f"hub:{describe(source)}"
    path = Path(source.path)
    digest = hashlib.blake2b(digest_size=16)
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if path.is_dir():
                digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror}).", path=source.path) from e
    return f"{path.name}:{digest.hexdigest()}"


class _Reader:
    """Turns the rows of one source into problems; remembers columns, answer kind and ids seen."""

    def __init__(self, source: Source, where: str) -> None:
        self.source = source
        self.where = where
        self.columns: dict[Field, str] = dict(source.columns)
        self.numeric: bool | None = None
        self.seen = Seen()

    def check_header(self, header: list[str]) -> None:
        """Refuse a table that lacks a column that is needed or was named."""
        if twice := sorted({c for c in header if header.count(c) > 1}):
            raise InputError(f"the column {twice[0]!r} occurs twice.", path=self.where, row=1)
        for field, column in self.source.columns.items():
            if column not in header:
                raise self._no_column(f"the {field} column {column!r}", header, column)
        if not self._settle("problem", header):
            raise self._no_column("a column for the problem", header, "problem")

    def peek(self, found: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """The same rows; refuses a JSONL file whose first rows are no objects, or lack the column.

        Rows before the first usable one are held back until it comes.
        """
        held: list[tuple[int, Any]] = []
        columns: dict[str, None] = {}
        for row, value in found:
            if isinstance(value, dict):
                columns |= dict.fromkeys(value)
                if self._settle("problem", value):
                    yield from held
                    yield row, value
                    yield from found
                    return
                # Only its lack of the column matters from here on.
                value = _missing("problem", self.columns.get("problem"), value)
            held.append((row, value))
            if len(held) == _PEEK:
                break
        if columns:
            column = self.source.columns.get("problem")
            wanted = "a column for the problem" if column is None else f"the problem column {column!r}"
            raise self._no_column(wanted, list(columns), column or "problem")
        if not held:
            raise rows.no_rows(self.where)
        row, refused = held[0]
        raise InputError(
            f"no row of the first {len(held)} is a JSON object ({refused.message}).",
            path=self.where,
            row=row,
            remedy="JSONL has one object a line; is it another format under this name?",
        )

    def convert(self, found: Iterable[tuple[int, Any]]) -> Iterator[Problem | Rejection]:
        """Each row as a problem, or refused."""
        for row, value in found:
            row_id = f"row {row}"
            try:
                if isinstance(value, RowRejected):
                    raise value
                own_id = self._id(value)
                row_id = own_id or row_id
                yield self._problem(value, own_id)
            except RowRejected as e:
                yield Rejection(row_id, e.reason, f"{self.where}, row {row}: {e.message}", row)

    def _problem(self, row: dict[str, Any], own_id: str | None) -> Problem:
        text = self._text(row)
        answer = self._answer(row)
        level, level_column = self._level(row)
        row_id = own_id or _digest(f"{text}\x1f{answer or ''}").hex()
        if not self.seen.add(int.from_bytes(_digest(row_id), "little")):
            what = f"the id {row_id!r}" if own_id else "the same problem and answer"
            raise RowRejected("duplicate id", f"{what} came before.")
        used = {self.columns.get("problem"), self.columns.get("id") if own_id else None, level_column}
        # The text before the mark (a worked solution) is kept; a plain answer is not kept twice.
        if self.source.answer_after is None:
            used.add(self.columns.get("answer"))
        rest = {k: v for k, v in row.items() if k not in used}
        meta = msgspec.json.encode(rest, enc_hook=repr).decode() if rest else "{}"
        return Problem(row_id, text, answer, level, meta)

    def _text(self, row: dict[str, Any]) -> str:
        if not self._settle("problem", row):
            raise _missing("problem", self.columns.get("problem"), row)
        value = row[self.columns["problem"]]
        if not isinstance(value, str):
            raise RowRejected("problem is not text", f"the problem is {_kind(value)}; it must be text.")
        if not value.strip():
            raise RowRejected("problem is empty", "the problem has no text.")
        return self._checked("problem", value)

    def _answer(self, row: dict[str, Any]) -> str | None:
        if not self._settle("answer", row):
            if "answer" in self.source.columns:
                raise _missing("answer", self.columns["answer"], row)
            return None
        value = row[self.columns["answer"]]
        text = self._scalar(value)
        mark = self.source.answer_after
        if text is None or mark is None:
            return text
        if mark not in text:
            raise RowRejected("answer mark missing", f"the answer does not contain {mark!r}.")
        text = text.rpartition(mark)[2].strip()
        if not text:
            raise RowRejected("answer is empty", f"nothing follows {mark!r} in the answer.")
        return text

    def _scalar(self, value: Any) -> str | None:
        """The answer as text; ``None`` where there is none."""
        if isinstance(value, str) and not value.strip():
            value = None
        if value is None:
            return None
        lenient = self.source.answers == "text"
        if isinstance(value, bool) and lenient:
            return "true" if value else "false"
        number = None if isinstance(value, (bool, str)) else _number(value)
        if number is None and not isinstance(value, str):
            raise RowRejected(
                "answer is neither text nor number", f"the answer is {_kind(value)}; it must be a scalar."
            )
        if self.numeric is None:
            self.numeric = number is not None
        if not lenient and self.numeric is not (number is not None):
            first = "a number" if self.numeric else "text"
            raise RowRejected(
                "answers of mixed types",
                f"the answer {_short(value)} is {_kind(value)}, but the first row's is {first}. "
                "Set 'answers: text' in the source to read numbers as text.",
            )
        return self._checked("answer", value.strip() if number is None else number)

    def _id(self, row: dict[str, Any]) -> str | None:
        if not self._settle("id", row):
            return None
        value = row[self.columns["id"]]
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise RowRejected("id is neither text nor whole number", f"the id is {_kind(value)}.")
        return self._checked("id", str(value))

    def _level(self, row: dict[str, Any]) -> tuple[int | None, str | None]:
        """The level and the column it was read from. Text such as "Level 5" is read as 5."""
        if not self._settle("level", row):
            return None, None
        column = self.columns["level"]
        value = row[column]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value, column
        match = _LEVEL.fullmatch(value.strip()) if isinstance(value, str) else None
        if match:
            return int(match[1]), column
        if value is None or value == "" or "level" not in self.source.columns:
            return None, None
        raise RowRejected("level is not a whole number", f"the level is {_short(value)}.")

    def _settle(self, field: Field, row: Iterable[str]) -> bool:
        """Whether ``row`` has the field's column; the first row with one of the defaults settles which."""
        if field not in self.columns:
            column = next((c for c in _DEFAULTS[field] if c in row), None)
            if column is None:
                return False
            self.columns[field] = column
        return self.columns[field] in row

    def _checked(self, what: str, text: str) -> str:
        limit = self.source.max_chars
        if len(text) > limit:
            raise RowRejected(
                f"{what} too long",
                f"the {what} has {len(text):,} characters; at most {limit:,} are taken. "
                "Raise 'max_chars' in the source to take it.",
            )
        if "\0" in text:
            raise RowRejected("NUL character", f"the {what} has a NUL at character {text.index(chr(0)) + 1}.")
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise RowRejected(
                "invalid UTF-8", f"the {what} is no Unicode text at character {e.start + 1}."
            ) from e
        return text

    def _no_column(self, wanted: str, columns: list[str], near: str) -> InputError:
        shown = ", ".join(repr(c) for c in columns[:20]) + (", ..." if len(columns) > 20 else "")
        field = next((f for f, c in self.source.columns.items() if c == near), "problem")
        return InputError(
            f"{wanted} is missing; the columns are {shown}.",
            path=self.where,
            remedy=f"{suggest(near, columns)} Name it in the source: columns: {{{field}: NAME}}.",
        )


def _missing(field: Field, column: str | None, row: dict[str, Any]) -> RowRejected:
    has = ", ".join(repr(c)[:40] for c in list(row)[:10]) or "no column"
    return RowRejected(f"no {field} column", f"this row has no column {column or field!r} (it has {has}).")


def _number(value: Any) -> str | None:
    """A finite number as text, the same for equal numbers; ``None`` for anything else."""
    from decimal import Decimal

    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, Decimal) and value.is_finite():
        return format(value.normalize(), "f")
    return None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return "missing" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
