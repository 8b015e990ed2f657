"""What a recipe says of a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gristmill.core import registry
from gristmill.core.errors import RecipeError
from gristmill.core.records import Conversation, Pair, Problem, Sampled
from gristmill.core.registry import suggest
from gristmill.pipelines.sources import former, layouts
from gristmill.pipelines.sources.layouts import LayoutName
from gristmill.pipelines.sources.splits import pieces


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where records come from: a local ``path``, a ``dataset`` of the Hub, or a stage of a former ``run``.

    A row that cannot be used is rejected with its reason, and the rest goes on; a row without an id gets one
    from its content. Columns that no field is read from go to the record's ``meta``, if it has one.
    """

    path: str | None = None
    """A file (JSONL, a JSON array, CSV, Parquet; the text formats also as ``.gz`` or ``.zst``), a folder of
    such files, a pattern (``data/*.jsonl``), or a folder written by ``save_to_disk`` of ``datasets``."""
    dataset: str | None = None
    """A data set of the Hub, or a folder laid out like one."""
    config: str | None = None
    """The configuration (subset) of ``dataset``."""
    run: str | None = None
    """A complete former run: its name, looked up in ``runs``, or its directory."""
    stage: str | None = None
    """The stage of ``run`` whose records are read; by default its last."""
    runs: str = "runs"
    """The folder in which ``run`` is looked up."""
    reads: str | None = None
    """The type of the records: problems, samples, conversations, pairs, labelled, passages, trajectories,
    demonstrations, step labels, or a plug-in's. By default problems, and of a ``run`` what its columns
    say."""
    split: str = "train"
    """The split of a data set or of a folder: ``train``, ``train[:10%]``, ``train[100:200]``, ``train+test``.
    Of a single file or a pattern only the numbers in brackets count."""
    columns: dict[str, str] = {}
    """For fields of the record, the columns that they are read from, or paths into nested ones
    (``metadata.level``, ``answers[0]``). A column that no row has is an error."""
    layout: LayoutName = "auto"
    """How conversations and pairs are laid out; ``auto`` tells it from the columns of the first row."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    """What separates the cells of a CSV file; by default the one of ``,``, ``;``, tab and ``|`` that its
    header has most of."""
    answers: Literal["strict", "text"] = "strict"
    """With ``strict`` the answers of a source are all text or all numbers, and a row of the other kind is
    rejected; ``text`` reads both. Numbers become text so that equal numbers are equal texts: 27 and 27.0 are
    both "27"."""
    answer_after: Annotated[str, Meta(min_length=1)] | None = None
    """The answer is what follows the last occurrence of this mark ("####" for GSM8K)."""
    unusable_answers: Literal["stop", "reject"] = "stop"
    """What becomes of a row by whose answer the recipe's verifier can judge nothing ("0/0"), where a stage
    judges by it: ``stop`` ends the run before it asks any engine, ``reject`` leaves the row out."""
    max_chars: Annotated[int, Meta(ge=1)] = 100_000
    """A row with a longer text, in characters, is rejected."""
    where: str | None = None
    """A condition in Polars' SQL over the record's columns and the fields of its ``meta``; only records that
    meet it are taken."""
    shuffle: Annotated[int, Meta(ge=1)] | bool = False
    """Take the records in an order that this seed and their ids decide; ``true`` is the seed 1. All records
    of the source are in memory then."""
    offset: Annotated[int, Meta(ge=0)] = 0
    """So many records are passed over first, counted behind ``where`` and ``shuffle``."""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.path, self.dataset, self.run)) != 1:
            raise ValueError("give one of 'path', 'dataset' and 'run', and only one")
        pieces(self.split)
        if self.reads is not None:
            _known("a type of record", record_name(self.reads), registry.names("records"))
        if self.run is not None:
            if self.columns:
                raise ValueError(
                    "'columns' is for files and data sets; the records of a run have their fields"
                )
        else:
            if self.stage is not None:
                raise ValueError("'stage' is of a former run, which 'run' names")
            for field in self.columns:
                _known(f"a field of {self.reads or 'problems'}", field, _mappable(self.record))

    @property
    def record(self) -> type[Struct]:
        """The type of the records. Of a former run, its files are looked at."""
        named = None if self.reads is None else registry.find("records", record_name(self.reads))
        if self.run is not None:
            return former.record(former.folder(self.run, self.runs, self.stage), named)
        return Problem if named is None else named


def record_name(reads: str) -> str:
    """The registered name in any of its spellings: "step labels" and "step-labels" are ``step_labels``."""
    return reads.strip().lower().replace(" ", "_").replace("-", "_")


def _known(what: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise RecipeError(f"source: {name!r} is not {what}.", remedy=suggest(name, known))


def _mappable(record: type[Struct]) -> list[str]:
    """The fields that may be mapped to columns: a record's own, and the parts that it is made of."""
    if record is Problem:
        return list(layouts.PROBLEMS)
    parts: dict[str, Any] = dict.fromkeys(record.__struct_fields__)
    if record is Sampled:
        parts |= layouts.SAMPLES
    for kind, known in ((Conversation, layouts.CONVERSATIONS), (Pair, layouts.PAIRS)):
        if record is kind:
            parts |= {part: None for layout in known for part in layout.parts} | {layouts.INSIDE: None}
    return list(parts)
