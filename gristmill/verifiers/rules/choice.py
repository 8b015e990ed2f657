r"""Multiple choice: which option a completion settles on, by its letter or by its content.

A final answer is searched for in this order: the last ``\boxed{}`` and its line; the last line that claims an
answer ("The answer is B", "Answer: (B)", "so C", "option C is correct", but not "option B is wrong"); the
last line if it begins as an answer does ("(B)", "B.", "**B**", the content of an option).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gristmill.core.errors import GristmillError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import answered, failure
from gristmill.verifiers.rules.announced import (
    BOX,
    CLAIM,
    CONTENT,
    CORRECTED,
    DENIED,
    HEAD,
    JOINING,
    MORE,
    NUMBERED,
    REASON,
    SIGNED,
    WIDE,
)
from gristmill.verifiers.rules.listed import LETTERS, column_options, read_options
from gristmill.verifiers.rules.short_answer import find_whole, tokens, undecorated
from gristmill.verifiers.text.words import lines

LIMIT = 2_000
"""The longest line that is read as a final answer, in characters."""

_CLAIMS = 50
"""At most this many of the last claims of an answer are read."""


class OptionKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A reference in JSON, with the options that its answer is one of."""

    answer: str
    """The right option's letter or content."""
    options: tuple[str, ...] = ()
    """The contents of the options, in the order of their letters."""
    problem: str = ""
    """A text that lists the options, used if ``options`` is empty."""
    labels: tuple[str, ...] = ()
    """What the options are called in the data, where these are not the letters of their places (``1``, ``2``,
    ...): the answer may be one of these."""


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge which of several options a completion chooses.

    The reference is a letter, an option's content, or the JSON of an ``OptionKey``. Without any options, only
    letters can be compared.

    Several different final answers ("A or B", two boxes) are ``incorrect``, whichever is right.
    ``unparseable``: no final answer, one that speaks of several options, a letter followed by another
    option's content, or a letter beyond the options. ``error``: the reference is not an option, or could be
    two.
    """

    options: tuple[str, ...] = ()
    """The contents of the options, in the order of their letters; the reference's own options replace
    them."""
    match: Literal["either", "letter", "content"] = "either"
    """Whether an option may be named by its ``letter``, its ``content`` or ``either``. By content the order
    of the options does not matter, so an ``OptionKey`` with shuffled options gives the same verdicts."""
    counted_from: Literal[0, 1] | None = None
    """Of a reference that is the number of its option: that of the first option. Without it such a reference
    is an ``error``, unless it is an option's content or label."""

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion``; ``extracted`` is the letter, with the content if the options are known."""
        return answered(self._verify, completion, reference)

    @staticmethod
    def for_problem(problem: str, reference: str, columns: Mapping[str, Any]) -> str:
        """The reference with the options that ``problem`` lists, else with those in the row's ``columns``
        (see ``column_options``); as it is if it has its own, or there are none."""
        if reference.lstrip().startswith("{"):
            return reference
        if read_options(problem):
            told = OptionKey(reference, problem=problem)
        elif (listed := column_options(columns)) is not None:
            told = OptionKey(reference, listed.texts, labels=listed.labels)
        else:
            return reference
        return msgspec.json.encode(told).decode()

    def refuses(self, reference: str) -> str:
        """Why nothing can be judged by ``reference``; empty where it can."""
        told = self._told(reference)
        return told if isinstance(told, str) else ""

    def _told(self, reference: str) -> tuple[tuple[str, ...], int] | str:
        """The options and the place of the right one, or what is wrong with the reference."""
        try:
            key = read_key(reference)
        except ValueError as error:
            return str(error)
        options = key.options or read_options(key.problem) or self.options
        if not options and self.match == "content":
            return "match: content needs the options, in the reference, the row or the recipe"
        gold = _gold(key.answer.strip(), options, key.labels, self.counted_from)
        return gold if isinstance(gold, str) else (options, gold)

    def _verify(self, completion: str, reference: str) -> Verdict:
        told = self._told(reference)
        if isinstance(told, str):
            return failure("reference unparseable", told)
        options, gold = told
        reader = _Reader(options, self.match)
        rule, segments = final_segments(completion, reader)
        if not segments:
            return unparseable("no answer", "no letter and no option's content where a final answer stands")
        found: set[int] = set()
        for segment in segments:
            read = reader.read(segment)
            if isinstance(read, str):
                return unparseable(rule, read, segment[:200])
            found |= read
        if len(found) != 1:
            named = ", ".join(LETTERS[i] for i in sorted(found))
            if named and (len(segments) > 1 or reader.joined(segments[0])):
                return decided(
                    False, rule=f"{rule}: hedge", extracted=named, detail=f"several answers: {named}"
                )
            return unparseable(rule, f"it speaks of {named}" if named else "no option is named")
        (chosen,) = found
        content = f". {options[chosen]}" if options else ""
        return decided(chosen == gold, rule=rule, extracted=LETTERS[chosen] + content)


def read_key(reference: str) -> OptionKey:
    """The reference as an ``OptionKey``. ``ValueError`` if it is blank or JSON of another shape."""
    text = reference.strip()
    key = msgspec.json.decode(text, type=OptionKey) if text.startswith("{") else OptionKey(text)
    if not key.answer.strip():
        raise ValueError("the reference has no answer")
    if len(key.options) > len(LETTERS):
        raise ValueError(f"{len(key.options)} options are more than the {len(LETTERS)} letters")
    return key


def _gold(answer: str, options: Sequence[str], labels: Sequence[str], counted_from: int | None) -> int | str:
    """The index of the right option, or a sentence that says why there is none."""
    if answer in labels:
        return labels.index(answer)
    number = int(answer) if re.fullmatch(r"\d{1,2}", answer) else None
    if number is not None and counted_from is not None and options:
        index = number - counted_from
        if 0 <= index < len(options):
            return index
        return f"the answer {answer} is none of {len(options)} options counted from {counted_from}"
    letter = _letter_alone(answer)
    by_content = [i for i, option in enumerate(options) if _plain(option) == _plain(answer)]
    readings = set(by_content)
    if letter is not None and (not options or letter < len(options)):
        readings.add(letter)
    if len(readings) == 1:
        return readings.pop()
    if readings:
        which = ", ".join(LETTERS[i] for i in sorted(readings))
        return f"the answer {answer[:100]!r} could be {which}"
    counting = "; set counted_from to 0 or 1 if it is a number of one" if number is not None else ""
    return f"the answer {answer[:100]!r} is none of {len(options)} options{counting}"


def _letter_alone(text: str) -> int | None:
    match = re.fullmatch(r"(?:(?i:option|choice|answer)\s+)?[(\[]?([A-Za-z])[)\].:]{0,2}", undecorated(text))
    return LETTERS.index(match[1].upper()) if match else None


def _plain(text: str) -> str:
    return " ".join(undecorated(text).casefold().split())


class _Reader:
    """Which options a short text names."""

    def __init__(self, options: Sequence[str], match: str) -> None:
        self.size = len(options) or len(LETTERS)
        self.letters = match != "content"
        self.plain = [_plain(o) for o in options] if match != "letter" else []
        normal = [tuple(tokens(o)) for o in options] if match != "letter" else []
        # If two options are equal without punctuation ("x-1", "x/1"), only the exact text counts.
        self.normal = normal if len(set(normal)) == len(normal) else []

    def read(self, segment: str) -> set[int] | str:
        """The indices of the options that ``segment`` names, or a sentence that says what is wrong with
        it."""
        segment = undecorated(segment[:LIMIT])
        whole = self._equal(segment)
        alone = _letter_alone(segment) if self.letters else None
        if alone is not None and (alone < self.size):
            return {alone}
        if whole:
            return whole
        if self.letters and (head := HEAD.match(segment)) and _is_letter(head, segment):
            return self._by_letter(head, segment)
        return self._inside(segment)

    def begins(self, segment: str) -> set[int]:
        """The option whose content ``segment`` begins with, articles aside."""
        words = tokens(segment[:LIMIT])
        return {index for index, at in find_whole(words, self.normal) if at == 0}

    def _by_letter(self, head: re.Match[str], segment: str) -> set[int] | str:
        found = {LETTERS.index(head[1])}
        end = head.end()
        while more := MORE.match(segment, end):
            found.add(LETTERS.index(more[1]))
            end = more.end()
        if DENIED.match(segment, end):
            return set()
        beyond = [LETTERS[i] for i in sorted(found) if i >= self.size]
        if beyond:
            return f"{', '.join(beyond)} is beyond the {self.size} options"
        content = self._equal(segment[end:].lstrip(" \t.:)]}-–—*,"))
        if len(found) == 1 and content and not content & found:
            letter, other = head[1], LETTERS[min(content)]
            return f"the letter {letter} is followed by the content of {other}"
        return found

    def joined(self, segment: str) -> bool:
        """Whether a segment that names several options gives them as alternatives."""
        segment = undecorated(segment[:LIMIT])
        if self.letters and (head := HEAD.match(segment)) and _is_letter(head, segment):
            return True
        words = tokens(segment)
        places = find_whole(words, self.normal)
        ends = [(at, at + len(self.normal[index])) for index, at in places]
        return all(set(words[end:start]) <= JOINING for (_, end), (start, _) in pairwise(ends))

    def _equal(self, text: str) -> set[int]:
        plain = _plain(text)
        exact = {i for i, option in enumerate(self.plain) if option == plain}
        if exact or not plain or not self.normal:
            return exact
        normal = tuple(tokens(text))
        return {i for i, option in enumerate(self.normal) if option == normal}

    def _inside(self, text: str) -> set[int]:
        found: set[int] = set()
        for part in (text[: reason.start()], text) if (reason := REASON.search(text)) else (text,):
            words = tokens(part)
            found = {
                index
                for index, at in find_whole(words, self.normal)
                if not {"not", "isnt", "never"} & set(words[max(0, at - 2) : at])
            }
            if len(found) == 1:
                break
        return found


def _is_letter(head: re.Match[str], segment: str) -> bool:
    """Whether the capital that begins ``segment`` is a letter of an option and not the word "A" or "I"."""
    if DENIED.match(segment, head.end()):
        return False
    after = segment[head.end(1) :]
    if head[1] not in "AI" or not after[:1].isspace():
        return True
    return re.match(r"\s+(?:is|because|since|as|and|or)\b|\s*[-–—(]", after) is not None


def final_segments(completion: str, reader: _Reader) -> tuple[str, list[str]]:
    """Find the final answer: the rule that found it, and the texts there that name an option."""
    kept = lines(completion.translate(WIDE))
    boxes: list[str] = []
    for line in reversed(kept):
        if ("\\boxed" in line or "\\fbox" in line) and (boxes := BOX.findall(line[-LIMIT:])):
            break
    if any(_names(reader, box) for box in boxes):
        return "box", boxes
    if claims := _claims("\n".join(kept), reader):
        return "claim", claims
    if boxes or not kept:
        return "box", boxes
    last = SIGNED.sub("", kept[-1])
    if len(last) > LIMIT:
        return "", []
    for announced in reversed(list(CONTENT.finditer(last))):
        if reader.begins(segment := last[announced.end() :]):
            return "last line", [segment]
    if _names(reader, last):
        return "last line", [last]
    headed = [line for line in kept if (head := HEAD.match(line)) and _is_letter(head, line)]
    if headed == kept[:1] and len(headed[0]) <= LIMIT:  # an answer, then its explanation
        return "first line", headed
    return "", []


def _claims(text: str, reader: _Reader) -> list[str]:
    """What follows the last claims of an answer that stand on one line, or that none corrects."""
    segments: list[str] = []
    row = later = 0
    said = ""
    for claim in list(CLAIM.finditer(text))[-_CLAIMS:][::-1]:
        if segments and (
            (claim.start() < row and not (later == row and _repeated(text, claim, row, said)))
            or CORRECTED.search(text, claim.end(), later)
        ):
            break
        letter = next(filter(None, claim.groups()), None)
        if claim[3] and (
            LETTERS.index(claim[3]) >= reader.size or NUMBERED.search(text[: claim.start(3)][-20:])
        ):
            continue
        end = text.find("\n", claim.end())
        segment = letter or _first_sentence(text[claim.end() : end if end >= 0 else None][:LIMIT])
        if not re.match(r"(?:not|n't|none)\b", segment) and _names(reader, segment):
            segments.append(segment)
            later, said = claim.start(), claim[0]
            row = text.rfind("\n", 0, claim.start()) + 1
    return segments


def _first_sentence(segment: str) -> str:
    """An answer in words without what follows it; one by its letter may have the content behind a stop."""
    return (
        segment
        if HEAD.match(segment)
        else re.split(r"(?<=[^\W\d_]{2}[.!?])\s+(?=[A-Z])", segment, maxsplit=1)[0]
    )


def _repeated(text: str, claim: re.Match[str], row: int, said: str) -> bool:
    """Whether a claim in the words of the one that begins at ``row`` stands on the line before it."""
    same = (
        text[: claim.start()][-1:] in ("", "\n")
        and bool(claim[0].strip())
        and claim[0].strip().casefold() == said.strip().casefold()
    )
    return same and text.count("\n", claim.end(), row) == 1


def _names(reader: _Reader, segment: str) -> bool:
    # A complaint (a string) is about letters, so it names some.
    return bool(reader.read(segment))


class Shuffled(Struct, frozen=True):
    """Options in another order; ``order[i]`` is the index that the option now at ``i`` had before."""

    options: tuple[str, ...]
    order: tuple[int, ...]

    def original(self, letter: str) -> str:
        """The letter that the option now at ``letter`` had before. ``ValueError`` for an unknown letter."""
        index = LETTERS.find(letter.strip().upper()) if letter.strip() else -1
        if not 0 <= index < len(self.order):
            raise ValueError(f"{letter!r} is none of the {len(self.order)} options")
        return LETTERS[self.order[index]]

    def shown(self, letter: str) -> str:
        """The letter that the option formerly at ``letter`` has now. ``ValueError`` for an unknown letter."""
        index = LETTERS.find(letter.strip().upper()) if letter.strip() else -1
        if index not in self.order:
            raise ValueError(f"{letter!r} is none of the {len(self.order)} options")
        return LETTERS[self.order.index(index)]


def shuffle(options: Sequence[str], seed: int) -> Shuffled:
    """``options`` in a random order that is never the given one (ACRE, arXiv 2510.10104).

    One seed always gives the same order. ``GristmillError`` for fewer than two options or more than 26.
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise GristmillError(
            f"{len(options)} options cannot be shuffled.", remedy=f"Give 2 to {len(LETTERS)} options."
        )
    order = list(range(len(options)))
    draw = random.Random(seed)
    while order == sorted(order):
        draw.shuffle(order)
    return Shuffled(tuple(options[i] for i in order), tuple(order))


def key(options: Sequence[str], answer: str) -> str:
    """The reference for ``Choice`` in JSON."""
    return msgspec.json.encode(OptionKey(answer, tuple(options))).decode()
