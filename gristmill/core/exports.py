"""The contract of an export: records in, rows of a trainer's file out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct

SUFFIXES = (".jsonl", ".parquet", ".dataset")
"""The kinds of file that an export can be written to; ``.dataset`` is a folder, as ``datasets`` saves it."""


class Contents(Struct, frozen=True):
    """What the fields of a format's rows must hold beside their types, in names of fields.

    ``gristmill check`` looks at it. A message is one with ``role`` and ``content``, or with ``from`` and
    ``value``. Rules that a name cannot say are in ``Export.faults``.
    """

    whole: tuple[str, ...] = ()
    """Conversations that end with an answer."""
    prompts: tuple[str, ...] = ()
    """Conversations that end with the user's turn."""
    answers: tuple[str, ...] = ()
    """What follows a prompt: messages that begin and end with an answer, or one message."""
    differ: tuple[str, ...] = ()
    """Two sides that must not be the same."""
    filled: tuple[str, ...] = ()
    """Texts that must not be blank, and lists that must not be empty."""
    aligned: tuple[str, ...] = ()
    """Lists of one length."""
    alternates: bool = False
    """Whether the trainer skips rows in which user and assistant do not take turns."""
    reserved: tuple[str, ...] = ()
    """Columns beside the format's own by which the trainer would read the rows in another way."""


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turns one record into rows of a trainer's format; its fields are the options that a recipe may set.

    A subclass gives ``reads``, ``writes`` and ``rows``. Records that have all fields of ``reads`` in the same
    types will do.
    """

    reads: ClassVar[type[Struct]]
    writes: ClassVar[type[Struct]]
    suffix: ClassVar[str] = ".jsonl"
    """The kind of file where the recipe names none: one of ``SUFFIXES``."""
    trainer: ClassVar[str] = ""
    """Whose settings ``needs`` are, one of ``gristmill.pipelines.exports.configs``; empty for none."""
    command: ClassVar[str] = ""
    """How the trainer is started; the place of its settings comes behind."""
    needs: ClassVar[Mapping[str, Any]] = {}
    """The trainer's settings without which it would read the rows wrongly, in its own words."""

    contents: ClassVar[Contents] = Contents()
    """What a file of this format must hold to be read as it is meant."""

    columns: tuple[str, ...] | dict[str, str] = ()
    """What every row carries beside the format's own keys: columns of the records, or expressions over them,
    such as ``[subset, verdict, scores.length, meta.source]``; a mapping names the keys itself. ``score`` is
    that of the verdict."""
    with_config: bool = False
    """Write the trainer's settings beside the data, as a file that the trainer reads."""

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

    def faults(self, row: Mapping[str, Any], /) -> Iterator[str]:
        """Why the trainer would refuse or misread a row whose fields have their types, where ``contents``
        cannot say it: short reasons, by which ``gristmill check`` counts."""
        return iter(())

    def settings(self, out: Path) -> dict[str, Any]:
        """The trainer's settings for rows that are at ``out``: ``needs``, and what the options ask for."""
        return dict(self.needs)

    def beside(self, out: Path) -> dict[str, bytes]:
        """Files that the trainer needs beside the rows at ``out``: contents by name."""
        return {}
