"""The verifier of mathematical answers, and the classes of equal answers."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from gristmill.core.answers import REASONING_TAGS, final_answer
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import failure, guarded
from gristmill.verifiers.math import decide
from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.decide import Reading, Rules
from gristmill.verifiers.math.extract import extract, find, mentioned
from gristmill.verifiers.math.sampling import fingerprint
from gristmill.verifiers.math.tree import LimitError, Limits, Tree
from gristmill.verifiers.math.units import measure

_NEAR = 1e-4
"""Answers whose fingerprints differ by more, relatively, are not compared by ``group``."""
Tolerance = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Math(Struct, frozen=True, forbid_unknown_fields=True):
    r"""Judge the final answer of a completion against a reference, plain text or LaTeX, boxed or not.

    A reference that is a whole solution counts by its last box, or by what follows ``####`` as in GSM8K.

    Exact answers are compared exactly. If either side is a decimal fraction or in scientific notation,
    numbers may differ by ``tolerance_relative`` of the larger or by ``tolerance_absolute``.

    ``correct`` and ``incorrect`` are sure, in every way the answer may be read. Else the verdict is
    ``unparseable``, and its rule says why: ``no answer``, ``unfinished`` (reasoning or a box that was never
    closed), ``limit`` or ``too long``, ``not mathematics`` (the answer is not understood), ``ambiguous`` (the
    sentence may be read in several ways, and they differ), ``undecided`` (nothing here is sure). ``error``
    where the reference cannot be read. Score 1.0 or 0.0 where decided; the rule is then the layer that
    decided. Where the answer was not in a box, the detail says where it was found.

    The last ``memo`` verdicts are kept, by answer, reference and settings, and a sixteenth as many answers
    as they were read; 0 keeps none. 65,536 verdicts on short answers take about 50 MB.
    """

    tolerance_relative: Tolerance = 1e-6
    """Of the larger of two numbers, where either is a decimal fraction; it serves no whole number."""
    tolerance_absolute: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """The same, absolute; the wider of the two counts."""
    logarithm: Literal["undecided", "natural", "ten", "two"] = "undecided"
    r"""The base of a bare ``\log``. Undecided: a verdict must hold for base e and for base 10."""
    reasoning_tags: tuple[str, ...] = REASONING_TAGS
    """The tags around a model's reasoning, without brackets: what follows the last closing one counts."""
    limits: Limits = Limits()
    """Bounds on what is read and computed."""
    memo: Annotated[int, msgspec.Meta(ge=0)] = 65_536
    """Verdicts that each process keeps."""

    def __call__(self, completion: str, reference: str, /) -> Verdict:
        """Judge ``completion`` against ``reference``."""
        return guarded(_verify, self, completion, reference)

    def refuses(self, reference: str) -> str:
        """Why nothing can be judged by ``reference``; empty where it can."""
        told = _theirs(self, reference)
        return told if isinstance(told, str) else ""

    @property
    def rules(self) -> Rules:
        """What equality means."""
        return Rules(self.tolerance_relative, self.tolerance_absolute, _BASES[self.logarithm])

    @property
    def readings(self) -> int:
        """How many answers are kept as they were read: they are larger than verdicts, and fewer."""
        return self.memo // 16


_BASES = {"undecided": 0, "natural": None, "ten": 10, "two": 2}


def _verify(options: Math, completion: str, reference: str) -> Verdict:
    text = final_answer(completion, options.reasoning_tags)
    if text is None:
        return unparseable("unfinished", "the reasoning was never closed")
    found = find(text)
    if not found.readings:
        rule = "unfinished" if found.problem.startswith("the last box") else "no answer"
        return unparseable(rule, found.problem if text.strip() else "the completion is empty")
    sentence = found.whole or found.clause  # one that is the reference itself is right, however it is read
    stated = reference.strip()
    if sentence and stated and stated in (found.whole.strip(), text.strip()):
        return decided(True, rule="same text", extracted=stated)
    judged = _memo(options.memo)
    verdicts: list[Verdict] = []
    for answer, how in found.readings:
        if len(answer) > options.limits.length:
            return unparseable(
                "too long",
                f"the answer has {len(answer):,} characters, over {options.limits.length:,} (limits.length)",
            )
        verdicts.append(judged(options, answer, reference, "" if how == "boxed" else f"read as: {how}"))
    first = verdicts[0]
    if first.outcome is Outcome.ERROR or (len(verdicts) == 1 and first.outcome is not Outcome.INCORRECT):
        return first
    answers = [answer for answer, _ in found.readings]
    if len({v.outcome for v in verdicts}) == 1:
        if first.outcome is not Outcome.INCORRECT or not found.clause:
            return first
        # Sure to be wrong is only what does not even mention the right answer.
        passed = (a for a in mentioned(found.clause) if a not in answers and len(a) < options.limits.length)
        right = next((a for a in passed if judged(options, a, reference, "").correct), None)
        if right is None:
            return first
        answers.append(right)
    several = ", ".join(repr(answer[:50]) for answer in answers[:4])
    return unparseable("ambiguous", f"read as: {found.readings[0].how}; it may say {several}", answers[0])


@cache
def _memo(size: int) -> Any:
    _MEMOS.append(found := lru_cache(size)(_judged))
    return found


_MEMOS: list[Any] = []
_UNIT = re.compile(r"\s?\\text\s?\{([^{}\d:]*)\}")


def _is_unit(answer: str, at: int) -> bool:
    """Whether nothing but a unit stands at ``at``."""
    found = _UNIT.fullmatch(answer, at)
    return found is not None and measure(found[1].strip()) is not None


def _judged(options: Math, answer: str, reference: str, how: str) -> Verdict:
    if (  # the most frequent of all: the number itself, perhaps with a unit
        reference.isdecimal()
        and reference.isascii()
        and answer.startswith(reference)
        and (len(answer) == len(reference) or _is_unit(answer, len(reference)))
    ):
        return decided(True, rule="same text", extracted=answer, detail=how)
    theirs = _theirs(options, reference)
    if isinstance(theirs, str):
        return failure("reference unparseable", theirs)
    try:
        ours = decide.reading(answer, options.limits, options.readings)
        found = decide.judge(ours, theirs, options.limits, options.rules)
    except LimitError as error:
        return unparseable("limit", str(error), answer)
    if found is None:
        answered = ours.trees or ours.answer.prose or ours.answer.kind or ours.answer.letter
        rule = "undecided" if answered or decide.is_calculus(answer) else "not mathematics"
        return unparseable(rule, decide.why_undecided(ours, theirs), answer)
    return decided(found.equal, rule=found.rule, extracted=answer, detail=how)


def _theirs(options: Math, reference: str) -> Reading | str:
    """The reference as it is read, or why nothing can be judged by it."""
    marked = any(mark in reference for mark in ("boxed", "fbox", "####"))
    gold = extract(reference) if marked else None
    wanted = gold.text if gold else reference.strip()
    try:
        theirs = decide.reading(wanted, options.limits, options.readings)
    except LimitError as error:
        return f"the reference {wanted[:100]!r} is beyond a limit: {error}"
    if not (theirs.trees or decide.readable(theirs)) or _NO_VALUE.fullmatch(wanted):
        why = f" ({theirs.problem})" if theirs.problem else ""
        return f"no answer can be read from {wanted[:100]!r}{why}"
    return theirs


_NO_VALUE = re.compile(r"\\?\s*0\s*/\s*0|\\[dt]?frac\s*\{\s*0\s*\}\s*\{\s*0\s*\}|\\[dt]?frac\s*00|(?i:nan)")
"""References that are not a value at all."""


def forget() -> None:
    """Empty the memo of verdicts and of readings, as a benchmark of first passes needs."""
    for memo in _MEMOS:
        memo.cache_clear()
    decide.forget()


_DEFAULT = Math()


def verify(completion: str, reference: str) -> Verdict:
    """``Math()``, the verifier with its defaults, as a function."""
    return _DEFAULT(completion, reference)


def prepare_worker() -> None:
    """Import what values are computed with, and fill its tables, before any deadline counts."""
    verify(r"\boxed{(x+1)^2}", "x^2+2x+1")


def group(answers: Sequence[str], options: Math = _DEFAULT) -> list[list[int]]:
    """The classes of equal answers, each as its indices in order; classes in order of their first.

    An answer that cannot be read is equal only to what is written alike. Each answer is compared with the
    first of a class, and only where their values at a random point are near each other; it joins a class
    only if it is surely equal to that first. Where equality is lenient it is not transitive (5 is equal to
    5 cm and to 5 kg, a decimal to what lies within the tolerance), and then the first of a class decides:
    its members are all equal to it, not always to each other, and another order may give other classes.
    """
    classes: list[list[int]] = []
    seen: dict[object, int] = {}
    firsts = _Firsts(options)
    for i, raw in enumerate(answers):
        if (at := seen.get(raw)) is None:
            try:
                found = decide.reading(raw, options.limits, options.readings)
            except LimitError:
                found = None
            keys = _keys(found) if found else []
            at = next((seen[k] for k in keys if k in seen), None)
            mark = _mark(found) if found and at is None else None
            if at is None:
                at = firsts.match(found, mark) if found else None
            if at is None:
                at = len(classes)
                classes.append([])
                if found:
                    firsts.append(found, mark, at)
            for key in (raw, *keys):
                seen.setdefault(key, at)
        classes[at].append(i)
    return classes


def _keys(found: Reading) -> list[object]:
    """What equal answers often share: the text, and the tree."""
    answer = found.answer
    shape = (answer.percent, answer.unit, answer.letter, answer.kind)
    keys: list[object] = [("text", answer.prose, answer.key, shape)]
    if found.trees:
        keys.append(("tree", found.trees[0], shape))
    return keys


class _Firsts:
    """The first answer of each class, ordered by fingerprint; those without one are compared with all."""

    def __init__(self, options: Math) -> None:
        self.options = options
        self.prints: list[float] = []
        self.order: list[tuple[Reading, int]] = []
        self.odd: list[tuple[Reading, int]] = []

    def append(self, found: Reading, mark: float | None, at: int) -> None:
        if mark is None:
            self.odd.append((found, at))
            return
        place = bisect_left(self.prints, mark)
        self.prints.insert(place, mark)
        self.order.insert(place, (found, at))

    def match(self, found: Reading, mark: float | None) -> int | None:
        near = self.order
        if mark is not None:
            reach = _NEAR * mark + 10 * self.options.tolerance_absolute
            near = self.order[bisect_left(self.prints, mark - reach) : bisect_left(self.prints, mark + reach)]
        for reading, at in (*near, *self.odd):
            if self.same(found, reading):
                return at
        return None

    def same(self, found: Reading, reading: Reading) -> bool:
        """Whether two answers are surely equal."""
        try:
            judgement = decide.judge(found, reading, self.options.limits, self.options.rules)
        except LimitError:
            return False
        return judgement is not None and judgement.equal


def _mark(found: Reading) -> float | None:
    """A number that is nearly the same for answers that may be equal; ``None`` for what has none."""
    answer = found.answer
    if len(found.trees) != 1 or answer.percent or answer.unit or answer.letter or answer.prose or answer.kind:
        return None
    parts = _parts(found.trees[0])
    if parts is None:
        return None
    values = [fingerprint(part) for part in parts]
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += abs(value + 0.5)
    return total


def _parts(tree: Tree) -> tuple[Tree, ...] | None:
    if tree[0] == "rel":
        return None
    if tree[0] not in t.COLLECTIONS:
        return (tree,)
    found: list[Tree] = []
    for item in tree[-1]:
        inner = _parts(item)
        if inner is None:
            return None
        found.extend(inner)
    return tuple(found)
