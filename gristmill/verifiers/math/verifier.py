"""The verifier of mathematical answers, and the classes of equal answers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Annotated

import msgspec
from msgspec import Struct

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.guard import failure, guarded
from gristmill.verifiers.math import decide
from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.decide import Reading, Undecided, Unreadable
from gristmill.verifiers.math.extract import extract
from gristmill.verifiers.math.sampling import fingerprint
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_NEAR = 1e-4
"""Answers whose fingerprints differ by more, relatively, are not compared by ``group``."""
Tolerance = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Math(Struct, frozen=True, forbid_unknown_fields=True):
    r"""Judge the final answer of a completion against a reference, plain text or LaTeX, boxed or not.

    Exact answers are compared exactly. If either side is a decimal fraction or in scientific notation,
    numbers may differ by ``tolerance_relative`` of the larger or by ``tolerance_absolute``.

    ``unparseable`` where no answer can be read or it goes beyond ``limits`` (the rule is ``limit``),
    ``error`` where the reference cannot be read. Score 1.0 or 0.0 otherwise. The rule is the layer that
    decided. Where the answer was not in a box, the detail says where it was found. ``unparseable`` too,
    the rule being ``undecided``, are integrals, limits and the like that nothing here can compare.

    The last ``memo`` verdicts are kept, by answer, reference and settings, and a sixteenth as many answers
    as they were read; 0 keeps none. 65,536 verdicts on short answers take about 50 MB.
    """

    tolerance_relative: Tolerance = 1e-6
    tolerance_absolute: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    limits: Limits = Limits()
    memo: Annotated[int, msgspec.Meta(ge=0)] = 65_536

    def __call__(self, completion: str, reference: str, /) -> Verdict:
        """Judge ``completion`` against ``reference``."""
        return guarded(_verify, self, completion, reference)

    @property
    def tolerance(self) -> tuple[float, float]:
        """Relative and absolute."""
        return self.tolerance_relative, self.tolerance_absolute

    @property
    def readings(self) -> int:
        """How many answers are kept as they were read: they are larger than verdicts, and fewer."""
        return self.memo // 16


def _verify(options: Math, completion: str, reference: str) -> Verdict:
    found = extract(completion)
    if found is None:
        what = "the completion is empty" if not completion.strip() else "no answer in the text, and no box"
        return Verdict(Outcome.UNPARSEABLE, rule="no answer", detail=what)
    if len(found.text) > options.limits.length:
        return Verdict(
            Outcome.UNPARSEABLE,
            rule="too long",
            detail=f"the answer has {len(found.text):,} characters, over {options.limits.length:,} "
            "(limits.length)",
        )
    return _memo(options.memo)(
        options, found.text, reference, "" if found.how == "boxed" else f"read as: {found.how}"
    )


@cache
def _memo(size: int) -> Callable[[Math, str, str, str], Verdict]:
    return lru_cache(size)(_judged)


def _judged(options: Math, answer: str, reference: str, how: str) -> Verdict:
    gold = extract(reference) if "boxed" in reference or "fbox" in reference else None
    wanted = gold.text if gold else reference.strip()
    try:
        theirs = decide.reading(wanted, options.limits, options.readings)
    except LimitError as error:
        return failure("reference unparseable", f"the reference {wanted[:100]!r} is beyond a limit: {error}")
    try:
        ours = decide.reading(answer, options.limits, options.readings)
        if not decide.same_text(ours.answer, theirs.answer) and not decide.readable(wanted, theirs):
            return failure("reference unparseable", f"no answer can be read from {wanted[:100]!r}")
        equal, rule = decide.judge(ours, theirs, (answer, wanted), options.limits, options.tolerance)
    except LimitError as error:
        return Verdict(Outcome.UNPARSEABLE, extracted=answer, rule="limit", detail=str(error))
    except Undecided as error:
        return Verdict(Outcome.UNPARSEABLE, extracted=answer, rule="undecided", detail=str(error))
    except Unreadable as error:
        return Verdict(
            Outcome.UNPARSEABLE, extracted=answer, rule="not mathematics", detail=f"{answer[:100]!r}: {error}"
        )
    outcome = Outcome.CORRECT if equal else Outcome.INCORRECT
    return Verdict(outcome, score=float(equal), extracted=answer, rule=rule, detail=how)


def forget() -> None:
    """Empty the memo of verdicts and of readings, as a benchmark of first passes needs."""
    _memo.cache_clear()
    decide.forget()


_DEFAULT = Math()


def verify(completion: str, reference: str) -> Verdict:
    """``Math()``, the verifier with its defaults, as a function."""
    return _DEFAULT(completion, reference)


def prepare_worker() -> None:
    """Import sympy and mpmath and fill their tables (about 0.7 s), before any deadline counts."""
    parse, equal = decide.math_verify()
    equal(parse(r"\boxed{\frac{x}{2}}"), parse(r"\boxed{\frac12 x}"))
    verify(r"\boxed{(x+1)^2}", "x^2+2x+1")


def group(answers: Sequence[str], options: Math = _DEFAULT) -> list[list[int]]:
    """The classes of equal answers, each as its indices in order; classes in order of their first.

    An answer that cannot be read is equal only to what is written alike. Each answer is compared with the
    first of a class, and only where their values at a random point are near each other. math-verify
    has no say, so it is safe in any process: what only that could find equal is of different classes.
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
    shape = (answer.percent, answer.unit, answer.letter)
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
            judgement = decide.judge_here(found, reading, self.options.limits, self.options.tolerance)
        except LimitError:
            return False
        return judgement is not None and judgement.equal


def _mark(found: Reading) -> float | None:
    """A number that is nearly the same for answers that may be equal; ``None`` for what has none."""
    answer = found.answer
    if len(found.trees) != 1 or answer.percent or answer.unit or answer.letter or answer.prose:
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
