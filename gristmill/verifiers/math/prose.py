"""Answers in sentences: words apart from mathematics, then what the sentence states.

The clause is read once from left to right. Runs of mathematics become candidates; the words between them say
what they are: behind "is", "so" or "in total" stands the result, behind "in", "of" or "per" a circumstance,
behind "because" or "obtained" a reason, behind "not" what it is not. Where several candidates are left and the
words do not say which one is meant, all of them are given, and a verdict needs them to agree.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gristmill.verifiers.math.tokens import FUNCTIONS, is_word
from gristmill.verifiers.math.units import known, measure

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
_WORDS_IN_COMMAND = re.compile(
    r"\\(?:text|mbox|textbf|mathrm|textit|textrm|begin|end|operatorname|mathbf|mathit|mathsf)\*?\s*\{([^{}]*)\}"
)
_TURN = frozenset(
    "is are was were equals equal makes make gives give leaves becomes so thus hence therefore then yields"
    " get gets means namely left has have had total altogether obtain implies follows meaning giving yielding".split()  # noqa: SIM905
)
"""What follows these is the result, and what stood before was on the way to it."""
_REASON = frozenset(
    "because since which where after when if while obtained given using assuming whenever although though"
    " considering based provided unless including plus-minus compared instead as leaving".split()  # noqa: SIM905
)
_LEADING = frozenset(
    "since because if when with after given as for although while using out from before having whenever".split()  # noqa: SIM905
)
"""A clause that begins with one of these says under what circumstances, up to its comma."""
_SELECTING = frozenset(("of", "from", "among", "between"))
_GIVES = re.compile(
    r"\s+(?:[a-z]+\s)?(?:gives?|means|is|equals?|yields?|makes|leaves|simplifies|implies|leads)\b"
)
_BOUND = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|fewer|greater|larger|smaller) than|between|up to|over|under)\s*\Z"
)
_CIRCUMSTANCE = frozenset(
    "in of per for from by with within before over under every each at than out into on during among until"
    " without through across to about-face step case problem part question option".split()  # noqa: SIM905
)
_BETWEEN = frozenset(
    "the a an his her its their all these those only just exactly about approximately roughly nearly"
    " my our that this first last next".split()  # noqa: SIM905
)
_WHOLES = frozenset("total sum amount value number cost price average mean maximum minimum product".split())  # noqa: SIM905
_SUMS = re.compile(r"\s*(?:[^\W\d]+\s){0,3}?(?:in (?:all|total)|altogether|total|overall)\b")
_TURNED = re.compile(
    r"(?:comes?|came|amounts?|adds? up|works? out|equal|equals|evaluates?|simplifies|reduces)\s*$"
)
_SPOKEN_MINUS = re.compile(r"\A(?:minus|negative)\s*", re.IGNORECASE)
_NEGATION = frozenset("not never isn't aren't wasn't cannot no neither nor".split())  # noqa: SIM905
_ARTICLES = frozenset(("a", "A", "I"))
_RELATION = frozenset("=<>≤≥≈≠")
_HEDGED = frozenset(("or", "and", "either", "maybe", "perhaps", "possibly", "alternatively", "also"))
_BLANK = frozenset(("\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad"))


_DEMOTED = {"": "before", "before": "earlier"}


class Candidate(NamedTuple):
    """A run of mathematics in a clause, and how it stands there."""

    start: int
    end: int
    text: str
    role: str
    """``""`` for a main one; ``before`` or ``earlier`` if a result came later; ``circumstance``, ``aside``, ``name``."""
    joined: bool
    """Whether only "or", "and" or a comma stands between it and the candidate before."""


def is_mathematics(text: str) -> bool:
    """Whether a text holds no words beside mathematics: letters of it are symbols, functions or units."""
    bare = _WORDS_IN_COMMAND.sub(" ", text) if "\\" in text else text
    for found in _WORD.finditer(bare):
        run = found[0]
        if len(run) == 1 or run in FUNCTIONS:
            continue
        if known(run) is not None and run != "in":
            if _AT_END.match(bare, found.end()) is None:
                return False
        elif is_word(run) or (len(run) == 2 and run.lower() in _SHORT_WORDS):
            return False
    return True


_AT_END = re.compile(r"[\sA-Za-z/^23.{}°%$]*\Z")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_SHORT_WORDS = frozenset("is in he we it so to of at by if as no my up us me do go am an be on".split())  # noqa: SIM905


class _Scan:
    """One pass over a clause."""

    def __init__(self, clause: str) -> None:
        self.clause = clause
        self.found: list[Candidate] = []
        self.start = self.end = -1
        self.depth = 0
        self.solid = False
        """Whether the run holds more than signs."""
        self.pending = False
        """Whether the run ends in a sign that waits for what it belongs to."""
        self.role, self.aside = "", 0
        self.joined = False
        self.negated = self.over = False
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
            self.found.append(Candidate(self.start, self.end, text, role, self.joined))
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
        if (
            len(self.words) > 2
            and "the" in self.words[-3:-1]
            and not _SELECTING.isdisjoint(self.words[-4:-1])
        ):
            return "circumstance"  # "of the integers f(1), f(2)"
        for i in range(len(self.words) - 1, -1, -1):
            word = self.words[i]
            if word in _BETWEEN:
                continue
            if word == "of" and i and self.words[i - 1] in _WHOLES:
                return ""
            if word == "to" and i and _TURNED.search(" ".join(self.words[max(i - 2, 0) : i])):
                return ""
            return "circumstance" if word in _CIRCUMSTANCE else ""
        return ""

    def word(self, word: str, at: int, end: int) -> bool:
        """A word of the language. ``False`` if nothing behind it counts."""
        low = word.lower()
        if low in _MINUS and self.start < 0:
            self.role = self.standing()
            self.begin(at)
            self.pending = True
            return True
        self.flush()
        stopped = self.stopped
        self.stopped = stopped and low in _CIRCUMSTANCE  # ", of which"
        if stopped and low in _LEADING and not self.has_main():
            self.leading = True
        elif low in ("which", "whom"):
            return self.relative(stopped=stopped, end=end)
        if low in _NEGATION or low.endswith("n't"):
            self.negated = True
        elif low in _TURN or (low == "to" and self.words and _TURNED.search(self.words[-1])):
            if not self.aside:
                self.turn()
        elif low in _REASON and self.has_main() and not self.aside:
            return False
        if low not in _HEDGED:
            self.joined = False
        self.words.append(low)
        return True

    def relative(self, *, stopped: bool, end: int) -> bool:
        """A clause with "which": what it gives is a result, else it is a remark or a circumstance."""
        if self.words[-1:] == ["from"] or _GIVES.match(self.clause, end):
            self.turn()
        elif stopped and self.has_main():
            return False
        else:
            self.leading = True
        self.words.append("which")
        return True

    def has_main(self) -> bool:
        return any(not c.role for c in self.found)

    def turn(self) -> None:
        """What was found is on the way to what comes."""
        if self.leading or not self.has_main():
            return
        self.found = [c._replace(role=_DEMOTED.get(c.role, c.role)) for c in self.found]


def candidates(clause: str) -> list[Candidate]:
    """The runs of mathematics in a clause that may be what it states; see the module."""
    scan = _Scan(clause)
    at, length = 0, len(clause)
    last = ""
    while at < length:
        found = _PIECE.match(clause, at)
        if found is None:
            at += 1
            continue
        kind, piece, start, end = found.lastgroup or "", found[0], at, found.end()
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
    return "all" in clause or "tal" in clause and _SUMS.match(clause, end) is not None


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
        return tied or after in (" ", "(") and last == "sign"
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


_WORDED = re.compile(r"\s*[A-Za-z]{2,}")


def _turned(scan: _Scan) -> bool:
    return bool(scan.words) and (scan.words[-1] in _TURN or scan.words[-1] in _BETWEEN)


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
        scan.stopped, scan.words = True, []
    elif piece in ".?" and scan.has_main() and (not after or after.isspace()):
        return False
    return True


def stated(clause: str, *, first: bool) -> tuple[str, ...]:
    """The readings of what a clause states, the likeliest first; none if it states no mathematics.

    ``first``: whether the clause is an answer by itself, as behind "Answer:", so that what it begins with
    is the answer and what follows a remark; else the last of several results is the likeliest.
    """
    if "$ $" in clause:
        clause = _BROKEN.sub(r"\1 ", clause)
    digit = _DIGIT.search(clause) if first else None
    if digit is not None and _BOUND.search(clause, 0, digit.start()):
        return ()  # "at least 5" is no number
    if (only := _only_number(clause)) is not None:
        return (_with_unit(clause, only),)
    found = candidates(clause)
    if not found:
        return ()
    for role in ("", "before", "earlier", "circumstance", "aside", "name"):
        chosen = [c for c in found if c.role == role]
        if chosen:
            break
    if len(chosen) > 1:
        chosen = _unfinished_sums_out(chosen)
    texts = [_with_unit(clause, c) for c in chosen]
    if len(set(texts)) == 1:
        return (texts[0],)
    if all(c.joined for c in chosen[1:]):
        return (", ".join(dict.fromkeys(texts)),)
    likeliest = texts[0] if first else texts[-1]
    return tuple(dict.fromkeys((likeliest, *texts)))


def _only_number(clause: str) -> Candidate | None:
    """The number of a clause that has just one, not negated, and no other mathematics."""
    if _SIGNS.search(clause) is not None:
        return None
    digit = _DIGIT.search(clause)
    found = None if digit is None else _NUMBER.search(clause, max(digit.start() - 1, 0))
    if found is None or _DIGIT.search(clause, found.end()) is not None:
        return None
    if found.start() and not (clause[found.start() - 1].isspace() or clause[found.start() - 1] in "(`"):
        return None
    before = clause[: found.start()].lower().split()
    if not _UNUSUAL.isdisjoint(before) or any(w.endswith("n't") for w in before):
        return None
    return Candidate(found.start(), found.end(), found[0], "", False)


def _unfinished_sums_out(chosen: list[Candidate]) -> list[Candidate]:
    """Without the calculations that lead to the last candidate: ``16 - 3 = 13`` before ``13 * 2 = 26``."""
    last = chosen[-1]
    left = [c for c in chosen[:-1] if not ("=" in c.text and not any(map(str.isalpha, c.text)))]
    return [*left, last]


def _with_unit(clause: str, found: Candidate) -> str:
    """The text of a candidate, with the unit behind it where that is one of measure or money."""
    text = found.text
    for opening, closing in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if text.startswith(opening) and (opening != "$" or not text[1:2].isdigit() or text.endswith("$")):
            text = text.removeprefix(opening)
        text = text.removesuffix(closing) if len(text) > len(closing) else text
    text = text.strip()
    if not text[-1:].isdigit() and text[-1:] not in ("}", ")"):
        return text
    behind = _UNIT_BEHIND.match(clause, found.end)
    return text if behind is None else text + _unit_in(behind[0].strip())


@lru_cache(maxsize=4096)
def _unit_in(words: str) -> str:
    """The unit that some words begin with, as it is written behind a number; empty if they begin with none."""
    words = words.rstrip(".")
    while words:
        if words in ("percent", "per cent"):
            return "%"
        if words.rpartition(" ")[2].lower() not in _NO_UNITS and (
            words.lower().replace(".", "") in ("am", "pm") or measure(words) is not None
        ):
            return f" \\text{{ {words}}}"
        words = words.rpartition(" ")[0]
    return ""


_NUMBER = re.compile(r"(?:(?<![\w\s-])-|(?<=[a-z]\s)-|\A-)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![-'’\w])")
_SIGNS = re.compile(r"[\\^={}\[\]$€£_<>|*/+%!≤≥≈±×÷√:]")
_DIGIT = re.compile(r"\d")
_BROKEN = re.compile(r"([=+-])\s*\$\s+\$")
"""A formula that was broken between two lines."""
_MINUS = frozenset(("minus", "negative"))
_UNUSUAL = _NEGATION | _MINUS
_NO_UNITS = frozenset(("in", "a", "at", "as", "an", "is"))
_UNIT_BEHIND = re.compile(r"\s?(?:[^\W\d_]+\.?(?:\^?[23])?(?:[ /·](?=[^\W\d_])|$|(?=\W))){1,4}")
