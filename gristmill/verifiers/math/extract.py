"""The final answer in a completion: boxed, after ``####`` or a phrase, the whole text, its last statement."""

from __future__ import annotations

import re
from typing import NamedTuple

from gristmill.verifiers.math.boxes import SEARCH, boxes
from gristmill.verifiers.math.layout import tidy
from gristmill.verifiers.math.normal import kind
from gristmill.verifiers.math.prose import candidates
from gristmill.verifiers.math.statements import stated, with_unit
from gristmill.verifiers.math.vocabulary import OTHER_NEGATION, is_mathematics, spaced

# "answer" stands before the answer; "result" and "solution" may stand before one on the way.
_PHRASE = re.compile(
    r"\b(?:answer|result|solution|conclusion)s?\b(?:\s+(?:to|of|for)\s[^.:\n=]{1,80}?)?[*_`]{0,3}\s*"
    r"(?:(?:is|are|was|equals|(?:would|will|should|must) be|comes (?:out )?to)\b|:|=|\n|(?=\s[-$\\(]?\d))"
    r"[\s:*_`]*",
    re.IGNORECASE,
)
_STOP = re.compile(r"\n|(?<!\\)[.?](?=\s|\Z)|(?<!\\)!(?=\s|\Z)(?!(?<=[\d)]!)\s+[a-z])")
# Marks of Markdown in pairs: never what may be a product or a power.
_MARKUP = re.compile(
    r"(?<![\w)\]}\\])(\*{1,3}|_{1,3}|`{1,3})(?=[^\s*])(.+?)(?<=\S)\1(?![\w({])|^\s*#{1,6}\s+"
)
_CLOSERS = re.compile(r"(?<=\S)(?:\*{1,3}|`{1,3})(?=[\s,;:!?)]|\.(?!\d)|\Z)")
_OPENERS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)"}
_MATHEMATICAL = re.compile(r"[\d\\=^+<>]")
_WORDED = re.compile(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}\\]*)\}|([^\\{}$^_]*)")
"""A box that holds nothing but text."""
_DIGIT = re.compile(r"\d")
_MENTIONS = 20
"""So many mentions of an answer, from the end of a text, are looked at."""
_LONGEST = 1_000
"""Characters of a sentence at most."""
_SENTENCES = 3
"""Sentences from the end of a text in which a statement is looked for."""


class Extracted(NamedTuple):
    """An answer as it is in the text, and how it was found."""

    text: str
    how: str


class Found(NamedTuple):
    """The readings of a text's final answer, the likeliest first; why there is none."""

    readings: tuple[Extracted, ...]
    problem: str = ""
    clause: str = ""
    """The sentence that was read; empty where an answer stood by itself."""
    whole: str = ""
    """The content of a box that was read as a sentence."""


def extract(text: str) -> Extracted | None:
    r"""The final answer of ``text``; ``None`` if there is none.

    ``how`` is ``boxed``, ``####``, ``phrase``, ``whole text`` or ``last expression``, tried in this order.
    Boxes that only a comma, ``and``, ``or`` or the like separate are one answer of several parts. Where a
    sentence may be read in several ways this is the likeliest. Reasoning is not taken away: see
    ``gristmill.core.answers.final_answer``.
    """
    found = find(text)
    return found.readings[0] if found.readings else None


def mentioned(clause: str) -> list[str]:
    """Everything mathematical that a sentence mentions, whatever its part in it."""
    plain = _plain(_sentence(clause.lstrip(" \t\n*:")))
    return list(dict.fromkeys(with_unit(plain, c) for c in candidates(plain)))[:_MENTIONS]


def last_box(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{}`` that is not blank; ``None`` if there is none."""
    found = boxes(text).contents
    return found[-1] if found else None


def find(text: str) -> Found:
    """All readings of the final answer of ``text``."""
    boxed = boxes(text)
    if boxed.unfinished:
        return Found((), "the last box was never closed")
    if boxed.contents:
        contents = tuple(dict.fromkeys(boxed.contents))
        worded = _WORDED.fullmatch(contents[0]) if len(contents) == 1 else None
        inside = (worded[1] or worded[2] or "") if worded else ""
        if _DIGIT.search(inside) and not is_mathematics(inside) and not kind(tidy(inside)):
            phrase = _PHRASE.search(inside)
            if readings := _readings(inside[phrase.end() :] if phrase else inside, first=True):
                return Found(tuple(Extracted(r, "boxed") for r in readings), whole=contents[0])
        return Found((Extracted(", ".join(contents), "boxed"),))
    tail = text[-SEARCH:].strip()
    at = tail.rfind("####")
    if at >= 0 and (marked := tail[at + 4 :].lstrip("# ").partition("\n")[0].strip()):
        if is_mathematics(marked):
            return Found((Extracted(marked, "####"),))
        if statement := stated(marked, first=True):
            return Found(tuple(Extracted(r, "####") for r in statement))
    return _phrased(tail) or _unphrased(tail)


def _phrased(tail: str) -> Found | None:
    phrase, weak = _last_phrase(tail, "nswer"), False
    if phrase is None:
        found_weak = [m for word in ("esult", "olution", "onclusion") if (m := _last_phrase(tail, word))]
        if not found_weak:
            return None
        phrase, weak = max(found_weak, key=lambda m: m.start()), True
    rest = tail[phrase.end() :]
    readings = _after(rest)
    if not readings:  # "The answer is not 5. It is 6."
        return None if weak else _unphrased(rest[len(_sentence(rest.lstrip(" \t\n*:"))) :].strip())
    if weak and len(_STOP.findall(rest.strip())) > 1:
        # "the result is 5. ... So there are 7": which one is not said
        readings = tuple(dict.fromkeys((*readings, *(r.text for r in _unphrased(rest).readings))))
    return Found(tuple(Extracted(r, "phrase") for r in readings), clause=rest[:_LONGEST])


def _last_phrase(tail: str, word: str) -> re.Match[str] | None:
    """The last place where ``word``, less its first letter, announces an answer."""
    at = len(tail)
    for _ in range(_MENTIONS):
        at = max(tail.rfind(word, 0, at), tail.rfind(word.upper(), 0, at))
        if at <= 0:
            break
        if (found := _PHRASE.match(tail, at - 1)) is not None:
            return found
    return None


def _after(rest: str) -> tuple[str, ...]:
    """The readings of what follows a phrase."""
    rest = rest.strip(" \t\n*:")
    if closer := _OPENERS.get(rest[:2]):
        inside, closed, behind = rest[2:].partition(closer)
        if closed and not _sentence(behind).strip(" .*"):
            return (inside.strip(),)
    clause = _sentence(rest).strip(" *`_")
    return _readings(clause, first=True)


def _readings(clause: str, *, first: bool) -> tuple[str, ...]:
    clause = _plain(clause.strip())
    if not clause:
        return ()
    if clause.isdecimal():
        return (clause,)
    bare = clause.strip("$ ") if clause.count("$") == 2 else clause
    if len(bare) <= 2 or _MATHEMATICAL.search(bare) is not None:
        if is_mathematics(bare):
            # "It is 5!" may be five or its factorial.
            return (clause, clause[:-1]) if bare.endswith("!") and "\\" not in bare else (clause,)
        if statement := stated(clause, first=first):
            return statement
        return ()
    return (clause,) if first and not _NEGATED.search(clause) else ()


def _plain(text: str) -> str:
    """``text`` without Markdown around its parts."""
    if "*" not in text and "`" not in text and "_" not in text and "#" not in text:
        return text
    return _CLOSERS.sub("", _MARKUP.sub(lambda m: m[2] or "", text))


_NEGATED = re.compile(r"\b(?:not|unknown|unclear|never|cannot)\b", re.IGNORECASE)


def _sentence(text: str) -> str:
    """The first sentence of a text; a stop between dollar signs or in brackets ends none."""
    at = 0
    while (stop := _STOP.search(text, at, _LONGEST)) is not None:
        at = stop.start()
        inside = "$" in text and (text.count("$", 0, at) - text.count("\\$", 0, at)) & 1
        if inside and stop[0] != "\n" and "$" in text[stop.end() :]:
            at = stop.end()
            continue
        return text[:at] if stop[0] != "!" or not text[at - 1 : at].isdigit() else text[: at + 1]
    return text[:_LONGEST]


def _unphrased(tail: str) -> Found:
    """The answer of a text without a phrase: all of it, or its last statement."""
    if _is_answer(whole := _plain(tail) if len(tail) < _LONGEST else tail):
        return Found((Extracted(whole, "whole text"),))
    for sentence in _last_sentences(tail):
        if not sentence.isascii() and OTHER_NEGATION.search(sentence) is not None:
            break
        statement = stated(spaced(_plain(sentence)), first=False)
        if statement:
            return Found(tuple(Extracted(r, "last expression") for r in statement), clause=sentence)
    return Found((), "no answer in the text, and no box")


def _last_sentences(tail: str) -> list[str]:
    """The last sentences, the last first."""
    near = tail[-_SENTENCES * _LONGEST :]
    if (shown := near.rfind("\\end{")) >= 0 and any(
        map(str.isdigit, behind := near[near.find("}", shown) + 1 :])
    ):
        near = behind  # what stands behind a display
    for opening, closing in (("\\[", "\\]"), ("$$", "$$")):
        if near.rstrip(" .").endswith(closing) and (at := near.rfind(opening, 0, near.rfind(closing))) >= 0:
            return [near[at:]]
    ends = [m.end() for m in _STOP.finditer(near) if m.end() < len(near)]
    starts = (
        [0, *ends] if tail.endswith(near) and len(near) < _SENTENCES * _LONGEST else ends
    )  # a beginning out of sight is none
    found = [near[a:b].strip() for a, b in zip(starts, [*starts[1:], len(near)][: len(starts)], strict=True)]
    return [s for s in reversed(found) if any(map(str.isalnum, s))][:_SENTENCES]


def _is_answer(text: str) -> bool:
    """Whether a text is nothing but an answer."""
    if not text or len(text) > _LONGEST or "\n\n" in text:
        return False
    if len(text) <= 2 or (len(text.split()) == 1 and text.isalpha()):
        return True
    return _MATHEMATICAL.search(text) is not None and is_mathematics(text)
