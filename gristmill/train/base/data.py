"""Rows of training files: one line each, of the kind that the trainer takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError
from gristmill.core.files import write_whole
from gristmill.train.base.processes import is_first

T = TypeVar("T", bound=Struct)


class RowForm(NamedTuple):
    """A form of rows: its keys, the export that writes it, and the kinds of training that take it.

    ``options`` are the export's where a run's rows are written for a training.
    """

    name: str
    keys: frozenset[str]
    export: str
    trainers: tuple[str, ...]
    options: Mapping[str, Any] = {}


FORMS = (
    RowForm(
        "weighted pairs",
        frozenset({"chosen", "rejected", "weight", "flip"}),
        "trl-dpo-weighted",
        ("preference", "reward"),
        {"user_turns": "keep"},
    ),
    RowForm("pairs", frozenset({"chosen", "rejected"}), "trl-dpo", ("preference", "reward")),
    RowForm("ties", frozenset({"first", "second"}), "ties", ("reward",)),
    RowForm("answers with scores", frozenset({"completion", "scores"}), "scored-answers", ("reward",)),
    RowForm("steps with values", frozenset({"steps", "values"}), "prm-rows", ("process_reward",)),
    RowForm("steps with labels", frozenset({"completions", "labels"}), "trl-stepwise", ("process_reward",)),
    RowForm(
        "labelled answers", frozenset({"completion", "label"}), "trl-kto", ("preference", "process_reward")
    ),
    RowForm("conversations with loss marks", frozenset({"messages"}), "axolotl-chat", ("sft",)),
    RowForm("prompts with answers", frozenset({"prompt", "completion"}), "trl-prompt-completion", ("sft",)),
    RowForm("conversations", frozenset({"messages"}), "trl-sft", ("sft",)),
    RowForm("problems", frozenset({"prompt", "solution"}), "trl-prompts", ("policy",)),
    RowForm("text", frozenset({"text"}), "text", ("sft",)),
    RowForm(
        "claims on passages", frozenset({"passage", "sentence", "label"}), "grounding-claims", ("encoder",)
    ),
)
"""The forms, those with more telling keys first."""


def form_of(row: Mapping[str, Any]) -> RowForm | None:
    """The form of a row, by the keys that have a value."""
    given = {key for key, value in row.items() if value is not None}
    return next((form for form in FORMS if form.keys <= given), None)


def taken_by(trainer: str) -> Sequence[RowForm]:
    """The forms that a kind of training takes."""
    return [form for form in FORMS if trainer in form.trainers]


def read_lines(path: Path, trainer: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a JSON lines file with their 1-based numbers; empty ones are passed over.

    ``InputError`` where it cannot be read, holds no row, or its first row is of a form that another kind of
    training takes.
    """
    found = False
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    if not found:
                        _check(line, path, number, trainer)
                    found = True
                    yield number, line
    except OSError as error:
        raise InputError(
            f"it cannot be read ({error.strerror}).", path=str(path), remedy="Give a JSON lines file."
        ) from error
    if not found:
        raise InputError("the file is empty.", path=str(path), remedy="Export other rows.")


def read_as(path: Path, kind: type[T], trainer: str) -> Iterator[tuple[int, T]]:
    """The rows of a file as records with their 1-based numbers. Raises ``InputError`` for a bad row, and as
    ``read_lines``."""
    for number, line in read_lines(path, trainer):
        try:
            yield number, msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{error}.", path=str(path), row=number, remedy=remedy(trainer)) from error


def remedy(trainer: str) -> str:
    """How to get rows that a kind of training takes."""
    names = " or ".join(form.export for form in taken_by(trainer))
    return f"Write rows with 'gristmill export' as {names}."


def cannot_render(model: str, path: str, number: int, error: Exception) -> InputError:
    """What is said of a row that the chat template of ``model`` does not write as it is."""
    return InputError(
        f"the chat template of {model} cannot render this row: {error}.",
        path=path,
        row=number,
        remedy="Use another form of rows, or a model whose chat template supports them.",
    )


def write_rejected(output: str, rejected: Sequence[Mapping[str, object]]) -> None:
    """Write ``rejected.jsonl``: the rows that were left out, by number, with their tokens."""
    lines = (msgspec.json.encode(one) + b"\n" for one in rejected)
    if not is_first():
        return
    write_whole(Path(output) / "rejected.jsonl", b"".join(lines))


def _check(line: bytes, path: Path, number: int, trainer: str) -> None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{error}.", path=str(path), row=number, remedy=remedy(trainer)) from error
    form = form_of(row) if isinstance(row, dict) else None
    if form is not None and trainer not in form.trainers:
        other = " or ".join(f"'gristmill train {kind.replace('_', '-')}'" for kind in form.trainers)
        raise InputError(
            f"the file holds {form.name}, which {trainer} does not take.",
            path=str(path),
            row=number,
            remedy=f"{other} takes them. For this one: {remedy(trainer)}",
        )
