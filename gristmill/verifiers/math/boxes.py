r"""The boxes of a text: the last, those that are one answer with it, and one that was never closed."""

from __future__ import annotations

import re
from typing import NamedTuple

SEARCH = 20_000
"""Characters before the last closing brace, and at the end of a text, in which an answer is looked for."""

# Several backslashes: a model may escape its own. An escaped brace is text, not a group.
_BRACE = re.compile(r"\\+(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_OPENED = re.compile(r"\\+(?:boxed|fbox)\s*\{")
_TOKEN_BOX = re.compile(r"\\+(?:boxed|fbox)\s+(-?\d[\d.,]*\d|-?\d|[A-Za-z](?![A-Za-z]))")
_GAP = 80
"""The most characters between two boxes that are one answer."""
_DRESSING = re.compile(
    r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}|\\[()\[\],;:! ]|\\(?:q?quad|\\|newline|lor|vee)(?![a-z])"
    r"|[$~&*{}]"
)
_NAMES = re.compile(r"(?<![A-Za-z])[A-Za-z](?:_\{?\w{1,4}\}?)?\s*=")
_JOINING = frozenset(
    "or and either perhaps maybe possibly alternatively also else else if nor to even both".split()  # noqa: SIM905
)
_WORDS = re.compile(r"[^\W\d_]+|\d|[^\s,;.:()]")
_NEGATIVE = re.compile(r"(?:^|[=$(\[:\n]|is)\s*[-−–]\s*$")


class Boxes(NamedTuple):
    """The contents of the boxes that make the answer, in order, and whether a later one was never closed."""

    contents: tuple[str, ...]
    unfinished: bool


def boxes(text: str) -> Boxes:
    """The last box that is closed and not blank, and those before it that only a joiner separates from it."""
    if "box" not in text:
        return Boxes((), unfinished=False)
    end = text.rfind("}") + 1  # nothing closes behind it
    start = max(0, max(text.rfind("boxed", 0, end), text.rfind("fbox", 0, end)) - SEARCH)
    window = text[start : min(end, start + 3 * SEARCH)]
    closed, opened = _closed(window)
    unfinished = _OPENED.search(text[end:]) is not None or (
        bool(opened) and opened[-1] > max((b[0] for b in closed), default=-1)
    )
    if not closed:
        if not unfinished and (token := _last_token_box(text)):
            return Boxes((token,), unfinished=False)
        return Boxes((), unfinished)
    last = max(range(len(closed)), key=lambda i: closed[i][0])
    chain = [closed[last]]
    for box in reversed(closed[:last]):
        if box[1] > chain[0][0] or not _joins(window[box[1] : chain[0][0]]):
            break
        chain.insert(0, box)
    return Boxes(tuple(_signed(window, at, inside) for at, _, inside in chain), unfinished)


def _closed(window: str) -> tuple[list[tuple[int, int, str]], list[int]]:
    """The boxes that are closed and not blank, as (start, end, content), and the starts of those open."""
    closed: list[tuple[int, int, str]] = []
    groups: list[tuple[int, int] | None] = []
    for token in _BRACE.finditer(window):
        if token[0] == "}":
            group = groups.pop() if groups else None
            if group is not None and (inside := window[group[1] : token.start()].strip()):
                closed.append((group[0], token.end(), inside))
        elif token[0][-1] == "{" and token[0] != r"\{":
            groups.append((token.start(), token.end()) if token[0] != "{" else None)
    return closed, [g[0] for g in groups if g is not None]


def _joins(gap: str) -> bool:
    """Whether what stands between two boxes makes them one answer, in any dressing."""
    if len(gap) > _GAP:
        return False
    bare = _NAMES.sub(" ", _DRESSING.sub(lambda m: f" {m[1] or ''} ", gap))
    return all(word.lower() in _JOINING for word in _WORDS.findall(bare))


def _signed(window: str, at: int, inside: str) -> str:
    """A box's content, with the minus sign that stands before the box."""
    return f"-({inside})" if _NEGATIVE.search(window[max(0, at - 12) : at]) else inside


def _last_token_box(text: str) -> str | None:
    r"""``\boxed 5``, as TeX allows."""
    found = None
    for match in _TOKEN_BOX.finditer(text[-SEARCH:]):
        found = match[1]
    return found
