"""Texts that mean harm to a verifier of mathematics, and a run of many of them through a pool."""

from __future__ import annotations

import os
import random
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.pool.pool import Pool

Pair = tuple[str, str]

SIZES = [
    # towers of powers and factorials, binomials, fractions, sums and products, expansions
    *("9^9^9^9", "9^{9^{9^{9}}}", "2^{1000000}", "x" + "^2" * 200, "e^{e^{e^{e^{e}}}}", "10^{10^{10^{10}}}"),
    *("100!!!!", "5000!", "((10!)!)!", "(10^{9})!", "170!/169!", "x!!!!!!", "3000!^{3000}", "1/2004!"),
    *(r"\binom{10^9}{5\cdot 10^8}", r"\binom{\binom{99}{9}}{\binom{99}{8}}", r"{100000 \choose 50000}"),
    *(r"\frac{1}{1+" * 39 + "1" + "}" * 39, r"\frac{1}{1+" * 300 + "1" + "}" * 300, r"\cfrac1" * 400),
    *(r"\prod_{k=1}^{10^8} k", r"\sum_{k=1}^{100000000} \frac1k", r"\sum_{k=1}^{n}\sum_{j=1}^{k} j^{99}"),
    *(r"\sum_{k=1}^{100}\sum_{j=1}^{100}\sum_{i=1}^{100} ijk", r"\sum_{k=1}^{2^n}\prod_{j=1}^{2^k} j"),
    *(r"\int_0^\infty e^{-x^{x^x}} dx", r"\lim_{n\to\infty}(1+1/n)^n", r"\sum_{k=0}^{\infty} 2^{-k}"),
    *("(x+y+z+w)^{400}", "(a+b)^{9999}", "(x+1)^{100}(x-1)^{100}", "(x^{999}-1)/(x-1)", "((x+1)^9+1)^9"),
    *("1e99999999", "1e-99999999", "0." + "0" * 1500 + "1", "9" * 1999, "9" * 5000, "1/" * 600 + "3"),
    *(r"\sqrt" * 500 + "2", r"\sqrt[99]{" * 30 + "2" + "}" * 30, r"\sin" * 300 + "x", "x^{-" * 38 + "}" * 38),
    *("2^{2^{64}}", "7^{1/99999}", r"\log_{" * 30 + "2}", r"e^{\pi\sqrt{163}}", r"\sin(10^{22})", "0^0"),
]
SHAPES = [
    # brackets, lists, macros, and what is no text
    *(
        "(" * 500 + "1" + ")" * 500,
        "{" * 900 + "1" + "}" * 900,
        "[" * 999,
        "}" * 999,
        "((",
        ")(",
        "{]",
        "|" * 99,
    ),
    *(
        "1," * 900,
        "1," * 300 + "1",
        "(" + "1," * 199 + "1)",
        "{1,{2,{3,{4}}}}",
        r"\{" * 60 + "1" + r"\}" * 60,
    ),
    *(
        r"\begin{pmatrix}" + "1&" * 300 + r"1\end{pmatrix}",
        r"\begin{matrix}" * 99,
        r"\begin{a}\end{b}",
        r"\end",
    ),
    *(
        r"\def\a{\a\a}\a",
        r"\newcommand{\x}{\x\x}\x",
        r"\let\b\b\b",
        r"\input{/etc/passwd}",
        r"\csname\endcsname",
    ),
    *(
        "\\" * 999,
        "$" * 999,
        r"\text{" * 99,
        r"\mathrm{" * 99 + "e" + "}" * 99,
        r"\left" * 99,
        r"\boxed{" * 99,
    ),
    *(
        "x_" * 400,
        "x_{" * 99,
        "x'" * 99,
        "-" * 999 + "1",
        "+-" * 300,
        "1+" * 900,
        "=" * 99,
        "<" * 99,
        "1=" * 99 + "1",
    ),
    *(
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "eval('1')",
        "lambda: 0",
    ),
    *(
        "exec(open('/dev/zero').read())",
        "{{7*7}}",
        "${jndi:x}",
        "'; DROP TABLE x",
        "%s%s%n",
        "<script>",
        "[].pop()",
    ),
    *(
        "a" * 1900,
        "a b " * 400,
        "and " * 400,
        "one " * 300,
        "twenty " * 200,
        "million " * 200,
        "minus " * 300,
    ),
    *(
        "%" * 500,
        "°" * 500,
        "!" * 500,
        "1 2 3 4",
        "1.2.3.4",
        "1,2,3,",
        "....",
        "#" * 99,
        "&" * 99,
        r"\\" * 99,
    ),
]
SIGNS = [
    *(
        "٣",
        "３",
        "𝟑",
        "²",
        "x²³",
        "2¹⁰",
        "x₁₂",
        "①",
        "Ⅷ",
        "፩",
        "½⅓",
        "٣٫٥",
        "௧௨",
        "1\u180e0",
        "𑁦",
        "੦੧",
        "一二",
        "५/७",
    ),
    *(
        "\0",
        "1\0",
        "\0" * 99,
        "\ud800",
        "1\udfff",
        "\u202e12",
        "\u200f3\u200e",
        "1\u200b2",
        "\ufeff7",
        "é\u0301" * 99,
    ),
    *(
        "\x01\x02",
        "\x01" * 99,
        "\x02\x01",
        "\U0010ffff" * 99,
        "👩‍👩‍👧" * 9,
        "−5",
        "–5",
        "＋5",
        "∞",
        "∅",
        "√√√√2",
        "√" * 300,
    ),
]
ANSWERS = [*SIZES, *SHAPES, *SIGNS]
WHOLE = [
    "$" * 1_000_000,
    r"\boxed{" * 140_000,
    "{" * 500_000 + "}" * 500_000,
    "1" * 1_000_000,
    "\n" * 1_000_000,
]
WHOLE += [r"\boxed{3} " + r"\boxed{" * 5_000, "the answer is " * 50_000, "#### " * 200_000, "1/" * 500_000]
WHOLE += ["", " ", "\ud800" * 10_000, r"\[" * 300_000, "a" * 1_000_000 + "}", r"\fbox{" * 9 + "1" + "}" * 9]
_PIECES = (
    r"\frac { } \sqrt ^ _ ( ) [ ] 1 2 09 x e i + - \pm , \text{ ! ° % $ \ \\ & \begin{pmatrix} \end{pmatrix} "
    r"= < \le and or | \lfloor \rfloor \sum_{k=1}^ \prod \binom . \infty \pi sin \log \cup \{ \} cm \in n k "
    r"\mathrm{ ½ ² ' / * : 1e9 boxed{ \int \lim ten third 99999 ∑ √ \left \right ^{ } ~ \, twelve \mod \to"
)
PIECES = _PIECES.split()
NUMERALS = [chr(i) for i in range(0x80, 0x110000) if unicodedata.category(chr(i)) in ("Nd", "No", "Nl")]


def placed(answer: str) -> Iterator[Pair]:
    """An answer as a completion in several dresses, as a reference, and against itself."""
    for completion in (rf"\boxed{{{answer}}}", f"So ${answer}$.", f"The answer is {answer}", answer):
        yield completion, "1"
        yield completion, answer
    yield r"\boxed{1}", answer
    yield r"\boxed{x^2+1}", answer


def corpus() -> Iterator[Pair]:
    """All that is written down here."""
    for answer in ANSWERS:
        yield from placed(answer)
    for text in WHOLE:
        yield text, "1"
        yield r"\boxed{1}", text


def soup(count: int, seed: int) -> Iterator[Pair]:
    """Random texts: pieces of formulas, numerals of all scripts, any characters, hostile answers spliced."""
    draw = random.Random(seed)

    def text() -> str:
        kind, size = draw.randrange(4), draw.randrange(1, 12)
        if kind == 0:
            return "".join(draw.choice(PIECES) for _ in range(size))
        if kind == 1:
            return "".join(draw.choice(PIECES if draw.random() < 0.6 else NUMERALS) for _ in range(size))
        if kind == 2:
            return "".join(chr(draw.randrange(0x110000)) for _ in range(size))
        a, b = draw.choice(ANSWERS), draw.choice(ANSWERS)
        return a[: draw.randrange(80)] + draw.choice(PIECES) + b[: draw.randrange(80)]

    for _ in range(count):
        yield rf"\boxed{{{text()}}}", draw.choice(["1", "x+1", text()])


class Run:
    """Pairs through a pool, so many at once as it has workers. Kept: outcomes, what is wrong."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[tuple[Pair, Verdict]] = []

    def __call__(self, pairs: Iterable[Pair]) -> None:
        """Judge ``pairs``; returns when all have their verdicts."""
        waiting: deque[tuple[Pair, Future[Verdict]]] = deque()
        for pair in pairs:
            waiting.append((pair, self.pool.submit(*pair)))
            if len(waiting) > 8:
                self._take(*waiting.popleft())
        while waiting:
            self._take(*waiting.popleft())

    def _take(self, pair: Pair, future: Future[Verdict]) -> None:
        verdict = future.result(timeout=60)
        self.outcomes[f"{verdict.outcome} ({verdict.rule})" if not verdict.decided else verdict.outcome] += 1
        failed = verdict.outcome is Outcome.ERROR and verdict.rule != "reference unparseable"
        if (
            failed
            or (verdict.score is None) == verdict.decided
            or (not verdict.decided and not verdict.detail)
        ):
            self.wrong.append((pair, verdict))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children() -> dict[int, str]:
    """The processes whose parent this is, by id, with their state (``Z``: not reaped)."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid():
            found[int(entry.parent.name)] = fields[0]
    return found
