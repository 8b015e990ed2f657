"""Replies in the forms of published judges: the verdict is found by the strongest form that a reply uses.

The forms, the strongest first: double brackets (``[[A]]``, ``[[A>>B]]``, ``Rating: [[7]]`` of MT-Bench and
Arena-Hard), ``[RESULT] 4`` (Prometheus), ``<answer>[[A]]</answer>`` (RM-R1), ``\\boxed{8}`` (SPCT), a JSON
object with a verdict, a line ``Rating: 4`` (UltraFeedback), the sentence "Output (a) is better." (LLMBar),
and the verdict alone. A reply that gives two different verdicts in its form is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from gristmill.core.engine import Completion
from gristmill.verifiers.judges.replies import DENIED, Unread, after_reasoning

_JSON_KEYS = (
    "verdict",
    "final_verdict",
    "winner",
    "better",
    "preference",
    "choice",
    "decision",
    "judgment",
    "judgement",
    "label",
    "score",
    "rating",
    "grade",
    "result",
    "answer",
)
_NAMED = "|".join(
    (
        "verdict",
        "rating",
        "score",
        "grade",
        "winner",
        "judge?ment",
        "decision",
        "preference",
        "answer",
        "label",
    )
)
_WHO = r"(?:output|response|answer|assistant|model|chatbot|option|candidate|version|text)"
_MARKS = " \t\r\n*_`\"'.()[]{}"
_BRACKETS = re.compile(r"\[\[([^\[\]\n]{1,40})\]\]")
_RESULT = re.compile(r"\[(?:RESULT|SCORE|VERDICT)\]:?\s*[(\[]*\s*([^\s()\[\]]{1,20})", re.IGNORECASE)
_TAGGED = re.compile(rf"<(answer|{_NAMED}|result|choice)>\s*([^<>]{{1,40}}?)\s*</\1>", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?\s*([^{}]{1,40}?)\s*\}?\s*\}")
_LINE = re.compile(
    rf"^[\s#>*_-]*(?:(?:the|my|final|total|overall|feedback)[ *_]+)*(?:{_NAMED}|overall|total)[*_]*"
    r"\s*(?:[:=]|is\b:?)[\s*_]*(.{1,40})$",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(
    rf"\b{_WHO}\s+[(\[\"'*]*([A-Z0-9])[)\]\"'*]*(?:['’]s\s+{_WHO})?\s+is\s+(?:(?:the|a|slightly|significantly"
    r"|much|clearly|overall|marginally|somewhat)\s+)*(?:better|superior|winner|best|preferred)\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    rf"\b(?:{_NAMED})[*_]*\s*(?:is|[:=])\s*[*_]*((?:{_WHO}\s+)?[(\[\"'*]*[\w+-]{{1,20}}[)\]\"'*]*"
    r"(?:\s*(?:/|out of)\s*\d+)?)(?=\s*(?:[.,](?!\d)|[;!?\u2014\u2013]|-\s|$))"
    r"|\b(?:rate|give|grade|score)\s+(?:\w+\s+){1,3}?(\d+(?:\.\d+)?\s*(?:/|out of)\s*\d+)",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_OUT_OF = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:/|out of|of)\s*(\d+)", re.IGNORECASE)
_ORDER = re.compile(r"([A-Z])\s*(>{1,2}|<{1,2}|=)\s*([A-Z])", re.IGNORECASE)
_TIES = ("c", "tie", "tied", "equal", "draw", "both", "a=b", "b=a")


def read_published(answer: Completion, labels: Sequence[str]) -> str | Unread:
    """The label that a finished reply gives in one of the published forms; see the module."""
    if not answer.finished:
        return Unread(f"finish_reason {answer.finish_reason}")
    text = after_reasoning(answer.text)
    if text is None:
        return Unread("its reasoning is not closed")
    for form, find in _FORMS:
        said = list(find(text))
        if not said:
            continue
        if denied := next((d for _, d in said if d), ""):
            return Unread(f"a verdict that is denied: {denied!r}")
        of_kind = [value for value, _ in said if not _of_another_kind(value, labels)]
        found = {_label(value, labels) for value in of_kind or [value for value, _ in said]}
        if len(found) > 1:
            return Unread(f"{form}: {len(found)} different verdicts")
        [label] = found
        return Unread(f"{form}: {said[0][0]!r} is not one of {', '.join(labels)}") if label is None else label
    return _begun(text, labels)


Found = Iterator[tuple[str, str]]
"""Values as written, each with the words before it that deny it, if any."""


def _matches(pattern: re.Pattern[str]) -> Callable[[str], Found]:
    def find(text: str) -> Found:
        for match in pattern.finditer(text):
            denied = DENIED.search(text[max(0, match.start() - 80) : match.start()])
            yield match[match.lastindex or 0], denied[0].strip() if denied else ""

    return find


def _json(text: str) -> Found:
    """The verdict of the JSON object that a reply holds, if it holds one."""
    found = _OBJECT.search(text)
    if found is None:
        return
    try:
        fields: Any = msgspec.json.decode(found[0])
    except (ValueError, RecursionError):
        return
    if isinstance(fields, dict):
        yield from (
            (str(fields[key]), "") for key in _JSON_KEYS if isinstance(fields.get(key), str | int | float)
        )


def _sentence(text: str) -> Found:
    """The verdict that the last sentence states, or the one before it, or the first."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if s.strip()]
    for near in (sentences[-1:], sentences[-2:-1], sentences[:1]):
        said = [
            found for sentence in near for find in (_SENTENCE, _STATED) for found in _matches(find)(sentence)
        ]
        if said:
            return iter(said)
    return iter(())


def _alone(text: str) -> Found:
    """The reply itself, where it is short."""
    if len(text.strip()) <= 20:
        yield text, ""


def _begun(text: str, labels: Sequence[str]) -> str | Unread:
    """The label with which a reply begins, as in ``Yes, it is``, or that is its first or last line, where it
    names no other one."""
    lines = [line for line in text.splitlines() if line.strip()]
    begun = re.match(r"[\s*_\"']*(\w{2,20})[*_\"']*\s*[,.:;!\u2014\u2013]", text)
    near = [begun[1] if begun else "", *lines[:1], *lines[-1:]]
    label = next((found for one in near if (found := _label(one, labels)) is not None), None)
    others = [one for one in labels if one != label]
    if label is None or re.search(rf"\b(?:{'|'.join(map(re.escape, others))})\b", text, re.IGNORECASE):
        return Unread(f"no verdict in {text[-60:]!r}")
    return label


_FORMS: Sequence[tuple[str, Callable[[str], Iterable[tuple[str, str]]]]] = (
    ("double brackets", _matches(_BRACKETS)),
    ("[RESULT]", _matches(_RESULT)),
    ("answer tags", _matches(_TAGGED)),
    ("boxed", _matches(_BOXED)),
    ("JSON", _json),
    ("a named line", _matches(_LINE)),
    ("a sentence", _sentence),
    ("the verdict alone", _alone),
)


def _of_another_kind(value: str, labels: Sequence[str]) -> bool:
    """Whether a value is a number where the labels are words, or the other way round: the confidence beside a
    verdict, or the verdict beside a grade."""
    numbers = all(re.fullmatch(r"-?\d+", label) for label in labels)
    return numbers != bool(re.search(r"\d", value))


def _label(value: str, labels: Sequence[str]) -> str | None:
    """The label that ``value`` means; ``None`` where it is none of them."""
    inner = _BRACKETS.search(value) or _TAGGED.search(value)
    if inner is not None and inner[0] != value:
        value = inner[inner.lastindex or 0]
    plain = value.strip(_MARKS).casefold()
    known = {label.casefold(): label for label in labels}
    if plain in known:
        return known[plain]
    if order := _ORDER.fullmatch(plain):
        first, sign, second = order.groups()
        plain = "tie" if sign == "=" else (first if sign[0] == ">" else second)
    elif outof := _OUT_OF.match(plain):
        if outof[2] != labels[-1]:
            return None
        plain = outof[1]
    plain = re.sub(
        r"^(?:(?:output|response|answer|assistant|model|chatbot|option)\s*[(\[]?)", "", plain
    ).strip(_MARKS)
    if "a" in known and "b" in known:
        plain = {"1": "a", "2": "b"}.get(plain, "tie" if plain in _TIES else plain)
    plain = plain.removeprefix("+")
    if re.fullmatch(r"-?\d+\.0+", plain):
        plain = plain.partition(".")[0]
    return known.get(plain)
