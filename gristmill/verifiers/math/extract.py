"""The final answer in a completion: boxed, after ``####`` or a phrase, or the last expression."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

SEARCH = 20_000
"""Characters before the last closing brace, and at the end of a text, in which an answer is looked for."""

_NEAR = 2_000
"""The last number is looked for in so many last characters."""

# Several backslashes: a model may escape its own. An escaped brace is text, not a group.
_BRACE = re.compile(r"\\+(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_JOINER = re.compile(
    r"[\s,;$.]*(?:(?:and|or|\\(?:text|mbox)\s*\{\s*(?:and|or)\s*\}|\\(?:quad|qquad))[\s,;$]*)?"
)
_PHRASE = re.compile(r"(?:answer|result|solution)\s*(?:is|:|equals|=)\s*:?\**", re.IGNORECASE)
_CLAUSE = re.compile(r"\n|(?<!\\)[.!?](?=\s|\Z)|,?\s(?:because|since|which|where|as|so|for)\s")
_NUMBER = re.compile(
    r"(?:(?<![\w)])[-+−])?\$?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+|(?=\.\d))(?:\.\d+)?(?:[eE][+-]?\d+)?"
    r"(?:\s?/\s?\d+)?%?"
)
_PLAIN = re.compile(r"[\w\s.,;:=<>+\-−*/^(){}\[\]|\\$%!°'±√π∞≤≥]+")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


class Extracted(NamedTuple):
    """An answer as it stands in the text, and how it was found."""

    text: str
    how: str


def extract(text: str) -> Extracted | None:
    r"""The final answer of ``text``; ``None`` if there is none.

    ``how`` is ``boxed``, ``####``, ``phrase``, ``whole text`` or ``last expression``, tried in this order.
    Boxes that only a comma, ``and`` or ``or`` separates are one answer of several parts.
    """
    boxes = _boxes(text)
    if boxes:
        return Extracted(", ".join(dict.fromkeys(boxes)), "boxed")
    tail = text[-SEARCH:].strip()
    at = tail.rfind("####")
    if at >= 0 and (marked := tail[at + 4 :].lstrip("# ").partition("\n")[0].strip()):
        return Extracted(marked, "####")
    phrase = next(iter(deque(_PHRASE.finditer(tail), maxlen=1)), None)
    if phrase is not None and (found := _after_phrase(tail[phrase.end() :])):
        return Extracted(found, "phrase")
    if _is_answer(tail):
        return Extracted(tail, "whole text")
    found = _last_expression(tail)
    return Extracted(found, "last expression") if found else None


def last_box(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{}`` that is not blank; ``None`` if there is none."""
    boxes = _boxes(text)
    return boxes[-1] if boxes else None


def _boxes(text: str) -> list[str]:
    """The contents of the last box and of those that only a joiner separates from it."""
    if "box" not in text:
        return []
    end = text.rfind("}") + 1  # nothing closes behind it
    start = max(0, max(text.rfind("boxed", 0, end), text.rfind("fbox", 0, end)) - SEARCH)
    closed: list[tuple[int, int, str]] = []
    last = -1  # of the complete boxes, the one that opens last, with the place of its content
    groups: list[tuple[int, int] | None] = []
    window = text[start : min(end, start + 3 * SEARCH)]
    for token in _BRACE.finditer(window):
        if token[0] == "}":
            group = groups.pop() if groups else None
            if group is not None and (inside := window[group[1] : token.start()].strip()):
                closed.append((group[0], token.end(), inside))
                if last < 0 or group[0] > closed[last][0]:
                    last = len(closed) - 1
        elif token[0][-1] == "{" and token[0] != r"\{":
            groups.append((token.start(), token.end()) if token[0] != "{" else None)
    if last < 0:
        return []
    chain = [closed[last]]
    for box in reversed(closed[:last]):
        gap = window[box[1] : chain[0][0]] if box[1] <= chain[0][0] else "nested"
        if len(gap) > 40 or not _JOINER.fullmatch(gap):
            break
        chain.insert(0, box)
    return [inside for _, _, inside in chain]


def _after_phrase(rest: str) -> str:
    rest = rest.strip(" \t\n*:")
    if rest.startswith(("\\[", "$$", "\\(")):
        closer = {"\\[": "\\]", "$$": "$$", "\\(": "\\)"}[rest[:2]]
        inside = rest[2:].partition(closer)[0]
        return inside.strip()
    clause = rest
    for stop in _CLAUSE.finditer(rest):
        if (
            rest.count("$", 0, stop.start()) - rest.count("\\$", 0, stop.start()) & 1
            and "$" in rest[stop.end() :]
        ):
            continue  # inside $...$
        clause = rest[: stop.start()]
        break
    clause = clause.strip(" *")
    if "$" in clause.replace("\\$", ""):
        pieces = clause.split("$")
        words = sum(len(_WORD.findall(p)) for p in pieces[::2])
        if words > 3 and len(pieces) > 2:
            return pieces[1].strip()
    return clause


def _is_answer(text: str) -> bool:
    """Whether a text as a whole is an answer: one line, no sentence."""
    if not text or len(text) > 2_000 or "\n" in text or _PLAIN.fullmatch(text) is None:
        return False
    if text.endswith((".", "!", "?")) and " " in text:
        return False
    words = _WORD.findall(text)
    has_mathematics = any(c in "0123456789=+\\^<>" for c in text)
    return (len(words) <= 1 and has_mathematics) or len(words) == 1 == len(text.split()) or len(text) <= 2


def _last_expression(tail: str) -> str:
    """The last thing between dollar signs or brackets, or else the last number."""
    for opening, closing in (("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        end = tail.rfind(closing)
        if end > 0 and (start := tail.rfind(opening, 0, end)) >= 0 and tail[start - 1 : start] != "\\":
            inside = tail[start + len(opening) : end].strip("$ \n")
            if inside and any(c.isalnum() for c in inside):
                return inside
    near = tail[-_NEAR:]
    last = next(iter(deque(_NUMBER.finditer(near), maxlen=1)), None)
    if last is None or (last.start() == 0 and len(tail) > _NEAR):  # its beginning is out of sight
        return ""
    return last[0]
