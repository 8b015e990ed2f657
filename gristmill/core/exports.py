"""The contract of an export: records in, rows of a trainer's file out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

SUFFIXES = (".jsonl", ".parquet")
"""The kinds of file that an export can be written to."""


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turns one record into rows of a trainer's format; its fields are the options that a recipe may set.

    A subclass gives ``reads``, ``writes`` and ``rows``. Records that have all fields of ``reads`` in the same
    types will do.
    """

    reads: ClassVar[type[Struct]]
    writes: ClassVar[type[Struct]]
    suffix: ClassVar[str] = ".jsonl"
    """The kind of file where the recipe names none: one of ``SUFFIXES``."""

    @property
    def row_type(self) -> type[Struct]:
        """The type of the rows with these options; ``writes`` where they do not change it."""
        return self.writes

    @abstractmethod
    def rows(self, record: Any, /) -> Sequence[Struct]:
        """The rows of type ``row_type`` made of a record.

        Raises ``RowRejected`` for a record that the format cannot express.
        """
        raise NotImplementedError

    def remarks(self, record: Any, /) -> dict[str, int]:
        """What a reader of the file should know of this record's rows, counted by phrases."""
        return {}
