"""Solutions cut into steps. Nothing is lost: the steps of a text join to it byte for byte.

All is linear in the text's length, whatever the text is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gristmill.verifiers.text.words import sentences

By = Literal["paragraph", "line", "step", "sentence", "tokens"]
Place = tuple[int, int]
"""Characters ``start:end`` of a text."""

_LINES = re.compile(r"\n(?:[^\S\n]*+\n)*+")
_PARAGRAPHS = re.compile(r"\n[^\S\n]*+\n(?:[^\S\n]*+\n)*+")
_STEP = re.compile(
    r"^[ \t]{0,8}(?:[#>*_\-]{1,6}[ \t]{0,4}){0,3}step[ \t]{0,4}\d{1,4}[ \t]{0,4}[*_]{0,3}[ \t]{0,4}[.:)\-–—]",
    re.IGNORECASE | re.MULTILINE,
)
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"(?:[{_CJK}]|[^\s{_CJK}]++)\s*+")
_NUMBERING = re.compile(r"[ \t]{0,8}(?:[#>*_\-]{1,6}[ \t]{0,4})?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s*")
_FENCE = re.compile(r"^[ \t]{0,20}+(?P<marks>`{3,}+|~{3,}+)(?P<info>[^\n]*+)", re.MULTILINE)
_DISPLAY = re.compile(
    r"(?P<open>\\\[)|(?P<close>\\\])|\\begin[ \t]{0,4}\{(?P<begin>[A-Za-z]{1,30}\*?)\}"
    r"|\\end[ \t]{0,4}\{(?P<end>[A-Za-z]{1,30}\*?)\}|\\.|(?P<dollars>\$\$)",
    re.DOTALL,
)
# As in Pandoc: no space inside the dollars, and no digit behind them, so that "$5 and $6" is money.
_INLINE = re.compile(
    r"(?<![\\$])\$(?![\s$])(?:\\[^\n]|[^$\n\\]){1,400}+(?<!\s)\$(?![\d$])|\\\((?:\\[^()\n]|[^\\\n]){1,400}+\\\)"
)


class Split(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""How a solution is cut into steps.

    Code fences and display mathematics (``$$..$$``, ``\[..\]``, ``\begin{..}..\end{..}``) are never cut,
    nor is inline mathematics by ``sentence`` and ``tokens``. A fence that is not closed goes on to the
    end, display mathematics that is not closed to the next blank line.
    """

    by: By = "paragraph"
    """``paragraph``: at blank lines. ``line``: at line breaks. ``step``: before each line that begins with
    "Step 1:" or the like; what comes before the first is a step too. ``sentence``: after each sentence and at
    blank lines. ``tokens``: after every ``window`` tokens, where a token is a word between spaces or one Han
    or kana character, which is an approximation of any model's tokenizer."""
    min_chars: Annotated[int, Meta(ge=0)] = 0
    """A step with fewer characters (without the space around it) joins the next one, at the end the one
    before. A step of nothing but space always does."""
    window: Annotated[int, Meta(ge=1)] = 64
    """The tokens of a step, by ``tokens``."""

    def __call__(self, text: str) -> list[str]:
        """The steps of ``text``, none of them empty; they join to it. Only ``""`` has no steps."""
        whole = protected(text)
        if self.by in ("sentence", "tokens"):
            whole = _union([*whole, *(m.span() for m in _INLINE.finditer(text))])
        cuts = _outside(_cuts(self.by, text), whole)
        if self.by == "tokens":
            cuts = _every(self.window, text, cuts)
        return _joined(text, cuts, max(1, self.min_chars))


def _cuts(by: By, text: str) -> Iterable[int]:
    """Where ``text`` may be cut, in order. ``tokens`` gives the end of every token."""
    if by == "paragraph":
        return (m.end() for m in _PARAGRAPHS.finditer(text))
    if by == "line":
        return (m.end() for m in _LINES.finditer(text))
    if by == "step":
        return (m.start() for m in _STEP.finditer(text))
    if by == "tokens":
        return (m.end() for m in _TOKEN.finditer(text))
    blank = (m.end() for m in _PARAGRAPHS.finditer(text))
    return sorted({*blank, *_sentence_starts(text)})


def _sentence_starts(text: str) -> Iterator[int]:
    at, numbering = 0, False
    for sentence in sentences(text):
        start = text.index(sentence, at)  # only space lies between
        if not numbering:
            yield start
        numbering = _NUMBERING.fullmatch(sentence.rpartition("\n")[2]) is not None
        at = start + len(sentence)


def _outside(cuts: Iterable[int], whole: list[Place]) -> list[int]:
    """The cuts that lie inside none of the places, which are in order and apart."""
    starts = [start for start, _ in whole]
    kept = []
    for cut in cuts:
        i = bisect_right(starts, cut - 1) - 1
        if i < 0 or cut >= whole[i][1]:
            kept.append(cut)
    return kept


def _every(window: int, text: str, cuts: list[int]) -> list[int]:
    """The first allowed cut after each ``window`` tokens."""
    chosen, count, allowed = [], 0, iter(cuts)
    cut = next(allowed, len(text))
    for token in _TOKEN.finditer(text):
        count += 1
        while cut < token.end():
            cut = next(allowed, len(text))
        if count >= window and cut == token.end():
            chosen.append(cut)
            count = 0
    return chosen


def _joined(text: str, cuts: Iterable[int], least: int) -> list[str]:
    """The pieces between the cuts; one with fewer than ``least`` characters joins a neighbour."""
    bounds = [0]
    first = None  # where the text of the step being gathered begins, after its leading space
    at = 0
    for cut in (*cuts, len(text)):
        piece = text[at:cut]
        if inner := piece.strip():
            start = at + len(piece) - len(piece.lstrip())
            first = start if first is None else first
            if start + len(inner) - first >= least:
                bounds.append(cut)
                first = None
        at = cut
    if bounds[-1] < len(text):
        bounds[max(1, len(bounds) - 1) :] = [len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def protected(text: str) -> list[Place]:
    """The code fences and the display mathematics of ``text``, in order and apart."""
    fences = _fences(text)
    starts = [start for start, _ in fences]
    tokens = []
    for token in _DISPLAY.finditer(text):
        i = bisect_right(starts, token.start()) - 1
        if token.lastgroup and (i < 0 or token.start() >= fences[i][1]):
            tokens.append(token)
    return _union([*fences, *_displays(text, tokens)])


def _fences(text: str) -> list[Place]:
    """Code fences as CommonMark has them: a longer or equal run of the same mark closes one."""
    found: list[Place] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            # A line such as ```x``` is code within a line.
            opened = None if fence["marks"][0] == "`" and "`" in fence["info"] else fence
        elif fence["marks"].startswith(opened["marks"]) and not fence["info"].strip():
            found.append((opened.start(), fence.end()))
            opened = None
    if opened is not None:
        found.append((opened.start(), len(text)))
    return found


def _displays(text: str, tokens: list[re.Match[str]]) -> Iterator[Place]:
    """Display mathematics outside of fences."""
    closers = _closers(tokens)
    done = 0
    for i, token in enumerate(tokens):
        if token.start() < done or token.lastgroup in ("close", "end"):
            continue
        if i in closers:
            done = tokens[closers[i]].end()
        else:
            blank = _PARAGRAPHS.search(text, token.end())
            done = blank.start() if blank else len(text)
        yield token.start(), done


def _closers(tokens: list[re.Match[str]]) -> dict[int, int]:
    """For each token that opens a display, the token that closes it, by their positions in the list."""
    closers: dict[int, int] = {}
    after: dict[str, int] = {}
    for i in range(len(tokens) - 1, -1, -1):  # the nearest one behind
        kind = tokens[i].lastgroup or ""
        want = {"open": "close", "dollars": "dollars"}.get(kind)
        if want is not None and want in after:
            closers[i] = after[want]
        after[kind] = i
    opened: list[int] = []
    names: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if token.lastgroup == "begin":
            opened.append(i)
            names[token["begin"]] = names.get(token["begin"], 0) + 1
        elif token.lastgroup == "end" and names.get(token["end"]):
            while opened:  # what was begun inside and never ended is passed over
                last = opened.pop()
                name = tokens[last]["begin"]
                names[name] -= 1
                if name == token["end"]:
                    closers[last] = i
                    break
    return closers


def _union(places: Iterable[Place]) -> list[Place]:
    """The places in order, those that overlap made one."""
    merged: list[Place] = []
    for start, end in sorted(places):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


_NUMBER = r"(?:[$€£][ \t]?)?(?:\d[\d,]*+(?:\.\d++)?|\.\d++)%?"
_UNIT = r"(?:[ \t]{1,3}[A-Za-z]{2,15}+(?=[ \t]*+[+*/=×÷·]|[ \t]++[-−][ \t]))?"  # "5 apples + 3 apples = 8"
_NAME = r"(?<![A-Za-z'’])(?:sin|cos|tan|log|ln|exp|sqrt|max|min|gcd|lcm|mod|[A-Za-z])(?![A-Za-z'’])"
_RUN = re.compile(
    rf"(?:(?:{_NUMBER}{_UNIT}|{_NAME}|\\[A-Za-z]++|[-+*/^=<>≤≥≠≈±×÷·−|!%(){{}}\[\]_,.:√π∞²³°])[ \t]*+)++"
)
_RELATION = re.compile(r"[\w)\]}!%°²³][ \t]*+(?:[-+*/^<>≤≥≠≈±×÷·−]{1,2}+|[<>!]?=)[ \t]*+[\w(\[\\$€£√π∞{.+−-]")
_ARTICLE = re.compile(r"[aAI][ \t]++(?=[\d\\(A-Za-z])|(?:and|or)[ \t]++")
_TAIL = re.compile(r"(?<=[\w)\]}%!])[ \t]++[aAI]\Z")


def mathematical_part(step: str) -> str:
    """What is mathematics in a step, piece by piece on lines of its own; ``""`` where nothing is.

    Code, display and inline mathematics as they are, boxed answers, and equations and other expressions
    with an operator in plain text ("48 / 2 = 24"). After "What Are Step-Level Reward Models Rewarding?"
    (arXiv 2412.15904), which finds that the rest of a step adds nothing. Plain text is read by a heuristic:
    an equation in words ("twice four is eight") is not seen.
    """
    marked = _union([*protected(step), *(m.span() for m in _INLINE.finditer(step))])
    pieces: list[str] = []
    at = 0
    for start, end in (*marked, (len(step), len(step))):
        pieces += _expressions(step[at:start])
        pieces.append(step[start:end].strip())
        at = end
    return "\n".join(filter(None, pieces))


def _expressions(text: str) -> Iterator[str]:
    for run in _RUN.finditer(text):
        piece = run[0].strip(" \t.,:!|")
        if article := _ARTICLE.match(piece):
            piece = piece[article.end() :]
        piece = _TAIL.sub("", piece)
        if piece.startswith("(") and piece.count("(") > piece.count(")"):
            piece = piece[1:]
        elif piece.endswith(")") and piece.count(")") > piece.count("("):
            piece = piece[:-1]
        boxed = "\\boxed{" in piece and piece.count("{") == piece.count("}")
        if boxed or _RELATION.search(piece):
            yield piece.strip(" \t.,")
