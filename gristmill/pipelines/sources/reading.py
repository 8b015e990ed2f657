"""Rows to records: what is the same for every type, and records that are read by their own field names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RowRejected
from gristmill.core.rules import told
from gristmill.core.seen import Seen
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.columns import MISSING, Columns, Located
from gristmill.pipelines.sources.layouts import IDS, INSIDE
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.values import checked, digest, kind, meta, opened, texts


class Reader:
    """Makes records of one type of the rows of one source; remembers columns and ids seen.

    A subclass gives ``_record``.
    """

    def __init__(
        self,
        source: Source,
        where: str,
        record: type[Struct],
        defaults: Mapping[str, Sequence[str]],
        needed: Sequence[str | tuple[str, ...]],
    ) -> None:
        self.source = source
        self.record = record
        mapped = {field: column for field, column in source.columns.items() if field != INSIDE}
        self.columns = Columns(where, mapped, {"id": IDS} | dict(defaults), needed)
        self.seen = Seen()
        self.at: tuple[str, int] = (where, 0)
        """The file and the number of the row that was read last."""

    def convert(self, found: Iterator[Located]) -> Iterator[Struct | Rejection]:
        """Each row as a record, or rejected."""
        for where, number, value in found:
            self.at = where, number
            row_id = f"row {number}"
            try:
                if isinstance(value, RowRejected):
                    raise value
                own_id = self._id(value)
                row_id = own_id or row_id
                yield self._record(value, own_id)
            except RowRejected as e:
                yield Rejection(row_id, e.reason, f"{where}, row {number}: {e.message}", number)

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        raise NotImplementedError

    def _id(self, row: dict[str, Any]) -> str | None:
        value = self.columns.value("id", row)
        if value is MISSING or value is None or value == "" or value != value:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise RowRejected("id is neither text nor whole number", f"the id is {kind(value)}.")
        return self._checked("id", str(value))

    def _once(self, row_id: str, own: bool, what: str) -> None:
        """Rejects a row whose id came before."""
        if not self._is_new(row_id):
            raise RowRejected("duplicate id", f"{f'the id {row_id!r}' if own else what} came before.")

    def _is_new(self, text: str) -> bool:
        """Whether a text did not come before. It has from now on."""
        return self.seen.add(int.from_bytes(digest(text), "little"))

    def _checked(self, what: str, text: str) -> str:
        return checked(what, text, self.source.max_chars)

    def _text(self, field: str, row: dict[str, Any]) -> str:
        """A field's text, which must be there and not be blank."""
        value = self.columns.value(field, row)
        if value is MISSING:
            raise self.columns.lacks(field, row)
        if not isinstance(value, str):
            raise RowRejected(f"{field} is not text", f"the {field} is {kind(value)}; it must be text.")
        if not value.strip():
            raise RowRejected(f"{field} is empty", f"the {field} has no text.")
        return self._checked(field, value)

    def _made(
        self,
        row: dict[str, Any],
        own_id: str | None,
        fields: dict[str, Any],
        used: set[str],
        more: Mapping[str, Any] | None = None,
    ) -> Struct:
        """The record of ``fields``. Columns not ``used``, and ``more``, go to its ``meta`` if it has one.

        Rejected: what does not fit the record, a text too long, an id or the same content seen before.
        """
        if "meta" in self.record.__struct_fields__ and "meta" not in fields:
            taken = used | (self.columns.used(row, ["id"]) if own_id else set())
            fields["meta"] = meta(opened(row), taken, more)
        for text in texts({k: v for k, v in fields.items() if k != "meta"}):
            self._checked("text", text)
        if own_id is None:
            content = {k: v for k, v in fields.items() if k != "meta"}
            try:
                own_id_text = digest(msgspec.json.encode(content, enc_hook=repr).decode()).hex()
            except (TypeError, UnicodeEncodeError) as e:
                raise RowRejected("row does not fit the record", f"{e}.") from e
        else:
            own_id_text = own_id
        try:
            made: Struct = msgspec.convert({**fields, "id": own_id_text}, self.record, strict=False)
        except msgspec.ValidationError as e:
            raise RowRejected(
                "row does not fit the record", f"{told(e, self.record)} (of a {self.record.__name__})."
            ) from e
        self._once(own_id_text, own_id is not None, "the same content")
        return made


class Records(Reader):
    """Records whose columns are called like their fields, or are mapped to them: those of our own files, of
    plug-ins, and passages."""

    def __init__(
        self,
        source: Source,
        where: str,
        record: type[Struct],
        defaults: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(source, where, record, defaults or {}, required(record))

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        fields = {}
        for field in self.record.__struct_fields__:
            if field in ("id", "meta") and field not in self.columns.mapped:
                continue
            value = self.columns.value(field, row)
            if value is MISSING:
                if field in self.columns.mapped:
                    raise self.columns.lacks(field, row)
            elif value is not None or field not in _defaulted(self.record):
                fields[field] = value
        parts = (f for f in self.record.__struct_fields__ if f != "id")
        return self._made(row, own_id, fields, self.columns.used(row, parts))


def required(record: type[Struct]) -> list[str]:
    """The fields without a default, but the id, which is made where a row has none."""
    return [f for f in record.__struct_fields__ if f != "id" and f not in _defaulted(record)]


def _defaulted(record: type[Struct]) -> set[str]:
    return {f.name for f in msgspec.structs.fields(record) if not f.required}
