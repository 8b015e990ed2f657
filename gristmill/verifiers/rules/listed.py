"""Where the options of a multiple-choice question are listed: in its text, or in columns beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_OPTION = re.compile(r"(?:^|(?<=\s))[(\[]?([A-Z])[)\].:](?=\s)", re.MULTILINE)
_WHOLE = ("choices", "options", "endings", "answer_choices", "candidates")
"""Columns that hold all options: a list, a list of objects, or an object."""
_TEXTS, _LABELS = ("text", "texts", "content"), ("label", "labels", "key")
_ONE_EACH = re.compile(r"(?:(option|choice|answer|ending|op|sol)_?)?([A-Za-z]|\d)")
"""Columns that hold an option each: ``A``, ``option_b``, ``ending0``, ``sol1``, ``opa``."""


class ListedOptions(NamedTuple):
    """The contents of the options, and what each is called where that is not the letter of its place."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


def read_options(problem: str) -> tuple[str, ...]:
    """The options that a problem's text lists as ``(A) ...``, ``A. ...`` or ``A) ...``, on one line or on
    separate lines; empty unless they run A, B, ... without a gap. The last complete list counts."""
    return split_options(problem)[1]


def split_options(problem: str) -> tuple[str, tuple[str, ...]]:
    """A problem's text before its list of options (the whole text without a list), and the options."""
    marks = list(_OPTION.finditer(problem))
    starts = [i for i, mark in enumerate(marks) if mark[1] == "A"]
    for start in reversed(starts):
        run = [marks[start]]
        for mark in marks[start + 1 :]:
            if len(run) < len(LETTERS) and mark[1] == LETTERS[len(run)]:
                run.append(mark)
        if len(run) > 1:
            ends = [mark.start() for mark in run[1:]] + [len(problem)]
            texts = [problem[m.end() : end].strip() for m, end in zip(run, ends, strict=True)]
            texts[-1] = texts[-1].split("\n", 1)[0].strip()
            options = tuple(text.rstrip(",;").strip() for text in texts)
            return problem[: run[0].start()].rstrip(), options
    return problem, ()


def column_options(columns: Mapping[str, Any]) -> ListedOptions | None:
    """The options in the columns of a row, as MMLU, ARC, HellaSwag, MedQA and the like lay them out.

    One column for all (``choices``, ``options``, ``endings``: a list of texts, of objects with ``text`` and
    ``label``, an object of two such lists, or an object from labels to texts), or a column for each (``A``,
    ``B``, ...; ``option_a``, ``ending0``, ``sol1``, ...). ``None`` where there are none, or not 2 to 26.
    """
    for name in _WHOLE:
        if name in columns and (found := _together(columns[name])) is not None:
            return found
    return _one_each(columns)


def _together(value: Any) -> ListedOptions | None:
    if isinstance(value, Mapping):
        texts, labels = (_named(value, names) for names in (_TEXTS, _LABELS))
        if isinstance(texts, Sequence) and not isinstance(texts, str):
            return _made(texts, labels or ())
        return _made(list(value.values()), list(value))
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    if all(isinstance(one, Mapping) for one in value):
        labels = [_named(one, _LABELS) for one in value]
        return _made([_named(one, _TEXTS) for one in value], [] if None in labels else labels)
    return _made(value, ())


def _named(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if name in value), None)


def _one_each(columns: Mapping[str, Any]) -> ListedOptions | None:
    groups: dict[str, dict[str, Any]] = {}
    for name in columns:
        found = _ONE_EACH.fullmatch(name)
        if found is not None and (found[1] or found[2].isupper()):
            groups.setdefault(found[1] or "", {})[found[2].upper()] = columns[name]
    for group in groups.values():
        for first in ("A", "0", "1"):
            run: list[Any] = []
            while (label := chr(ord(first) + len(run))) in group and group[label] not in (None, ""):
                run.append(group[label])
            if len(run) > 1:
                return _made(run, [chr(ord(first) + i) for i in range(len(run))])
    return None


def _made(texts: Sequence[Any], labels: Sequence[Any]) -> ListedOptions | None:
    """The options, if they are such; labels that are the letters of their places are none."""
    plain = all(isinstance(x, str | int | float) and not isinstance(x, bool) for x in (*texts, *labels))
    if not plain or not 2 <= len(texts) <= len(LETTERS) or len(labels) not in (0, len(texts)):
        return None
    called = tuple(str(label).strip() for label in labels)
    lettered = [label.strip("().").upper() for label in called] == list(LETTERS[: len(texts)])
    return ListedOptions(tuple(str(text).strip() for text in texts), () if lettered else called)
