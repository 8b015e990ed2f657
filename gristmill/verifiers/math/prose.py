"""Answers in sentences: words apart from mathematics, then what the sentence states.

The clause is read once from left to right. Runs of mathematics become candidates; the words between them say
what they are: behind "is", "so" or "in total" stands the result, behind "in", "of" or "per" a circumstance,
behind "because" or "obtained" a reason, behind "not" what it is not.

The file is a little longer than others: the reading is one pass, whose steps share what was read before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gristmill.verifiers.math.tokens import FUNCTIONS, is_word
from gristmill.verifiers.math.units import known
from gristmill.verifiers.math.vocabulary import (
    BETWEEN,
    CIRCUMSTANCE,
    CONCLUDING,
    HEDGED,
    LEADING,
    MINUS,
    NEGATION,
    REASON,
    SELECTING,
    TURN,
    WHOLES,
    is_mathematics,
)

_PIECE = re.compile(
    r"(?P<math>\$\$[^$]+\$\$|\\\((?:[^\\]|\\[^)])*\\\)|\\\[(?:[^\\]|\\[^\]])*\\\]"
    r"|\$(?![\s$])(?:[^$\n\\]|\\.)*(?<![\s(])\$(?!\d))"
    r"|(?P<number>(?:\\?[$€£¥₹]\s?)?(?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)|\d+)(?:\.\d+)?(?:\s?\\?%)?|\.\d+)"
    r"|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)"
    r"|(?P<command>\\[A-Za-z]+)"
    r"|(?P<sign>[=<>≤≥≈≠]|[-+−–*/×÷·^_±√°!|'′&]|\\[%$,;:! {}|])"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<stop>[,;:.?])|(?P<other>\S)"
)
_GIVES = re.compile(
    r"\s+(?:[a-z]+\s)?(?:gives?|means|is|equals?|yields?|makes|leaves|simplifies|implies|leads)\b"
)
_SUMS = re.compile(r"\s*(?:[^\W\d]+\s){0,3}?(?:in (?:all|total)|altogether|total|overall)\b")
_TURNED = re.compile(
    r"(?:comes?|came|amounts?|adds? up|works? out|equal|equals|evaluates?|simplifies|reduces)\s*$"
)
_SPOKEN_MINUS = re.compile(r"\A(?:minus|negative)\s*", re.IGNORECASE)
_WORDED = re.compile(r"\s*[A-Za-z]{2,}")
_ARTICLES = frozenset(("a", "A", "I"))
_RELATION = frozenset("=<>≤≥≈≠")
_BLANK = frozenset(("\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad"))


_UNIT_POWER = re.compile(r"\^[23](?!\d)")
_DEMOTED = {"": "before", "before": "earlier"}


class MathRun(NamedTuple):
    """A run of mathematics in a clause, and how it stands there."""

    start: int
    end: int
    text: str
    role: str
    """``""`` for a main one; ``before``, ``earlier`` if a result came later; ``circumstance``, ``aside``,
    ``name``."""
    joined: bool
    """Whether only "or", "and" or a comma stands between it and the candidate before."""


class _Scan:
    """One pass over a clause."""

    def __init__(self, clause: str) -> None:
        self.clause = clause
        self.found: list[MathRun] = []
        self.start = self.end = -1
        self.depth = 0
        self.solid = False
        """Whether the run holds more than signs."""
        self.pending = False
        """Whether the run ends in a sign that waits for what it belongs to."""
        self.role, self.aside = "", 0
        self.joined = False
        self.negated = self.over = False
        self.turned = ""
        """Whether a word such as "is" or "so" stood behind what was found."""
        self.leading = False
        """Whether a clause such as "Since ..., " is being read, or one that begins with "in which"."""
        self.stopped = True
        """Whether a comma, or nothing, stands before the next word."""
        self.words: list[str] = []
        """The words since the candidate before."""

    def begin(self, at: int) -> None:
        if self.start < 0:
            self.start, self.end = at, at

    def flush(self) -> None:
        if self.start >= 0 and self.solid and not self.negated:
            text = _SPOKEN_MINUS.sub("-", self.clause[self.start : self.end])
            role = "aside" if self.aside else self.role
            if not role and len(bare := text.strip("$\\() ")) < 3 and bare.isalpha():
                role = "name"
            self.add(MathRun(self.start, self.end, text, role, self.joined))
            self.words = []
            self.joined = True
        self.start, self.depth, self.solid, self.pending, self.role = -1, 0, False, False, ""

    def operand(self, at: int, end: int, *, joins: bool) -> None:
        """A number, a symbol or a command."""
        if self.start >= 0 and not (self.pending or joins or self.depth):
            self.flush()
        if self.start < 0:
            self.role = self.standing()
            self.begin(at)
        self.end, self.solid, self.pending = end, True, False

    def standing(self) -> str:
        """What the words before say a candidate is."""
        if self.leading:
            return "circumstance"
        if len(self.words) > 2 and "the" in self.words[-3:-1] and not SELECTING.isdisjoint(self.words[-4:-1]):
            return "circumstance"  # "of the integers f(1), f(2)"
        for i in range(len(self.words) - 1, -1, -1):
            word = self.words[i]
            if word in BETWEEN:
                continue
            if word == "of" and i and self.words[i - 1] in WHOLES:
                return ""
            if word == "to" and i and _TURNED.search(" ".join(self.words[max(i - 2, 0) : i])):
                return ""
            return "circumstance" if word in CIRCUMSTANCE else ""
        return ""

    def word(self, word: str, at: int, end: int) -> bool:
        """A word of the language. ``False`` if nothing behind it counts."""
        low = word.lower()
        if low in MINUS and self.start < 0:
            self.role = self.standing()
            self.begin(at)
            self.pending = True
            return True
        self.flush()
        stopped = self.stopped
        self.stopped = stopped and low in CIRCUMSTANCE  # ", of which"
        if stopped and low in LEADING and not self.has_main():
            self.leading = True
        elif low in ("which", "whom"):
            return self.relative(stopped=stopped, end=end)
        if low in NEGATION or low.endswith("n't"):
            self.negated = True
        elif (
            low in TURN
            or self.amounts(low, end)
            or (low == "to" and self.words and _TURNED.search(self.words[-1]))
        ):
            if not self.aside:
                self.turn(low)
        elif low in REASON and self.has_main() and not self.aside:
            return False
        if low not in HEDGED:
            self.joined = False
        self.words.append(low)
        return True

    def relative(self, *, stopped: bool, end: int) -> bool:
        """A clause with "which": what it gives is a result, else it is a remark or a circumstance."""
        if self.words[-1:] == ["from"] or _GIVES.match(self.clause, end):
            self.turn("which")
        elif stopped and self.has_main():
            return False
        else:
            self.leading = True
        self.words.append("which")
        return True

    def amounts(self, word: str, end: int) -> bool:
        """Whether "a total of" or "left with" stands here."""
        return (word == "total" and self.clause.startswith(" of", end)) or (
            word == "left" and self.clause.startswith(" with", end)
        )

    def has_main(self) -> bool:
        return any(not c.role for c in self.found)

    def turn(self, word: str = "") -> None:
        """If another result comes, what was found is on the way to it; until a comma, or for good."""
        if not self.leading and self.has_main():
            self.turned = "for good" if word in CONCLUDING else self.turned or "until a comma"

    def add(self, found: MathRun) -> None:
        """One more candidate."""
        if not found.role and self.turned:
            self.found = [c._replace(role=_DEMOTED.get(c.role, c.role)) for c in self.found]
            self.turned = ""
        self.found.append(found)


def candidates(clause: str) -> list[MathRun]:
    """The runs of mathematics in a clause that may be what it states; see the module."""
    scan = _Scan(clause)
    at, length = 0, len(clause)
    last = ""
    while at < length:
        if clause[at].isspace():
            at += 1
            continue
        found = _PIECE.match(clause, at)
        if found is None:
            at += 1
            continue
        kind, piece, start, end = found.lastgroup or "", found[0], at, found.end()
        if kind == "word" and last == "number" and len(piece) > 1 and known(piece) is not None:
            end += len(power[0]) if (power := _UNIT_POWER.match(clause, end)) else 0  # 6 cm^2
        spaced = start > 0 and clause[start - 1] == " "
        at = end
        if kind == "math" and not is_mathematics(piece):
            kind, piece, end = "other", piece[0], start + 1
            at = end
        if not _step(scan, kind, piece, (start, end), spaced=spaced, last=last):
            scan.over = True
            break
        if kind == "number" and _totals(clause, end):
            scan.turn()
        last = kind
    if not scan.over:
        scan.flush()
    return scan.found


def _totals(clause: str, end: int) -> bool:
    return ("all" in clause or "tal" in clause) and _SUMS.match(clause, end) is not None


def _step(scan: _Scan, kind: str, piece: str, span: tuple[int, int], *, spaced: bool, last: str) -> bool:
    """One piece of the clause. ``False`` where what counts has ended."""
    start, end = span
    if kind == "number":
        mixed = last == "number" and spaced and _is_mixed(scan.clause, scan.start, start)
        scan.operand(start, end, joins=mixed or (not spaced and last in ("sign", "command", "close", "word")))
    elif kind == "math":
        scan.flush()
        _formula(scan, start, end)
    elif kind == "word":
        if _is_symbol(scan, piece, start, end, spaced=spaced, last=last):
            scan.operand(start, end, joins=True)
        else:
            return scan.word(piece, start, end)
    elif kind == "command":
        if piece in _BLANK:
            return True
        scan.operand(start, end, joins=True)
    elif kind == "sign":
        _sign(scan, piece, start, end, spaced=spaced)
    elif kind in ("open", "close"):
        _bracket(scan, piece, start, end, spaced=spaced, last=last, opens=kind == "open")
    elif kind == "stop":
        return _stop(scan, piece, start, end)
    else:
        scan.flush()
        scan.joined = False
    return True


def _formula(scan: _Scan, start: int, end: int) -> None:
    """Mathematics between delimiters. "With $T=1, x=2$": a comma ends the circumstance there too."""
    parts = [(start, end)]
    if scan.leading and (comma := _parted(scan.clause, start, end)):
        parts = [(start, comma), (comma + 1, end)]
    for begin, stop in parts:
        scan.role = scan.standing()
        scan.start, scan.end, scan.solid = begin, stop, True
        scan.flush()
        scan.leading = scan.leading and len(parts) == 1


def _parted(clause: str, start: int, end: int) -> int:
    """The last comma outside of brackets; 0 if there is none."""
    depth = found = 0
    for at in range(start, end):
        depth += (clause[at] in "([{") - (clause[at] in ")]}")
        if clause[at] == "," and depth == 0:
            found = at
    return found


def _is_mixed(clause: str, start: int, at: int) -> bool:
    """Whether ``1 1/2`` or ``1 000`` stands here."""
    rest = clause[at : at + 12]
    return start >= 0 and re.match(r"\d+\s?/\s?\d|\d{3}(?!\d)", rest) is not None


def _is_symbol(scan: _Scan, piece: str, start: int, end: int, *, spaced: bool, last: str) -> bool:
    clause = scan.clause
    after = clause[end : end + 1]
    tied = (
        not spaced and last in ("number", "sign", "command", "open", "close") and start > 0
    ) or after in tuple("^_(=")
    if last == "number" and known(piece) is not None:
        return False
    if after == "{":  # a command that lost its backslash
        return True
    if len(piece) == 1:
        operated = tied or scan.pending or re.match(r"\s*[=<>+*/^_≤≥]", clause[end : end + 3]) is not None
        return operated or piece not in _ARTICLES
    if piece in FUNCTIONS:
        return tied or (after in (" ", "(") and last == "sign")
    return tied and not is_word(piece)


def _sign(scan: _Scan, piece: str, start: int, end: int, *, spaced: bool) -> None:
    if piece in ("\\$",) or piece in _BLANK:
        return
    if scan.start >= 0:
        if piece == "!" and ("." in scan.clause[scan.start : end] or end == len(scan.clause)):
            return  # the end of a sentence
        if piece in ("!", "°", "'", "′", "\\%"):
            scan.end = end if piece != "!" or not spaced else scan.end
            return
        scan.pending = True
        return
    after = scan.clause[end : end + 1]
    if piece in _RELATION:
        scan.turn()
        scan.words.append("is")
    elif (
        piece in "-−–+±√|"
        and after
        and not after.isspace()
        and (spaced or start == 0 or not scan.clause[start - 1].isalpha())
    ):
        scan.role = scan.standing()
        scan.begin(start)
        scan.pending = True
    elif piece in ("\\{", "\\|"):
        scan.role = scan.standing()
        scan.begin(start)
        scan.end, scan.pending = end, True
        scan.depth += piece == "\\{"


def _bracket(scan: _Scan, piece: str, start: int, end: int, *, spaced: bool, last: str, opens: bool) -> None:
    if opens:
        inside = scan.start >= 0 and (scan.pending or scan.depth or not spaced)
        words = _WORDED.match(scan.clause, end) is not None
        first = (
            scan.start < 0
            and not scan.aside
            and not words
            and (start == 0 or last in ("stop", "sign") or _turned(scan))
        )
        if inside or (first and piece != "{"):
            if scan.start < 0:
                scan.role = scan.standing()
                scan.begin(start)
            scan.depth += 1
            scan.pending = True
        else:
            scan.flush()
            scan.aside += 1
    elif scan.depth:
        scan.depth -= 1
        scan.end, scan.pending = end, False
    else:
        scan.flush()
        scan.aside = max(scan.aside - 1, 0)


def _turned(scan: _Scan) -> bool:
    return bool(scan.words) and (scan.words[-1] in TURN or scan.words[-1] in BETWEEN)


def _stop(scan: _Scan, piece: str, start: int, end: int) -> bool:
    after = scan.clause[end : end + 1]
    if piece == ":" and scan.start >= 0 and after.isdigit():
        scan.pending = True
        return True
    if scan.depth and piece in ",;":
        scan.pending = True
        return True
    scan.flush()
    if piece == ":":
        scan.turn()
    if piece in ",;":
        scan.negated = scan.leading = False
        scan.turned = scan.turned if scan.turned == "for good" else ""
        scan.stopped, scan.words = True, []
    elif piece in ".?" and scan.has_main() and (not after or after.isspace()):
        return False
    return True
