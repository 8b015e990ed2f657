r"""Mathematical equality of a completion's final answer and a reference, decided by math-verify.

The answer is the last complete ``\boxed{}``; without one, what math-verify finds in the text. Call it
through ``gristmill.verifiers.isolation.Pool``: a hostile answer (``9^{9^{9^{9}}}``) keeps sympy busy
for ever, and math-verify's own time-outs, which rest on ``SIGALRM`` and so work only in a main thread,
are switched off here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache, partial
from typing import Any, NamedTuple

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.guard import failure, guarded

ANSWER_LIMIT = 2_000
"""The longest boxed answer or reference that is parsed, in characters."""
SEARCH_LIMIT = 20_000
"""Where there is no box, an answer is looked for in so many last characters."""

# Several backslashes: a model may escape its own. An escaped brace is text, not a group.
_BRACE = re.compile(r"\\+(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_INTEGER = re.compile(r"[+-]?[0-9]+")


class _Found(NamedTuple):
    text: str
    boxed: bool


def verify(completion: str, reference: str) -> Verdict:
    """Judge the final answer of ``completion`` against ``reference`` (plain text or LaTeX, boxed or not).

    ``unparseable`` where no answer can be read from the completion, ``error`` where the reference
    cannot be read or math-verify itself fails. Score 1.0 or 0.0 otherwise.
    """
    return guarded(_verify, completion, reference)


def prepare_worker() -> None:
    """Import sympy, build the parser and fill its tables (about 0.7 s), before any deadline counts."""
    verify(r"\boxed{\frac{x}{2}}", r"\frac12 x")


def last_box(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{}`` that is not blank; ``None`` if there is none."""
    content, content_start = None, -1
    groups: list[int | None] = []  # of each open group: where its content starts, if it is a box
    for token in _BRACE.finditer(text):
        if token[0] == "}":
            start = groups.pop() if groups else None
            if (
                start is not None
                and start > content_start
                and (inside := text[start : token.start()].strip())
            ):
                content, content_start = inside, start
        elif token[0][-1] == "{" and token[0] != r"\{":
            groups.append(token.end() if token[0] != "{" else None)
    return content


def _verify(completion: str, reference: str) -> Verdict:
    box = last_box(completion)
    if box is None and not completion.strip():
        return _unparseable("no answer", "the completion is empty")
    if box is not None and len(box) > ANSWER_LIMIT:
        return _unparseable(
            "too long", f"the boxed answer has {len(box):,} characters, over {ANSWER_LIMIT:,}"
        )
    gold = last_box(reference) or reference.strip()
    if box is not None and (verdict := _exact(box, gold)) is not None:
        return verdict
    return _by_math_verify(completion, box, gold)


def _exact(answer: str, gold: str) -> Verdict | None:
    """Decide plain numbers without sympy; ``None`` where rounding or algebra would have a say."""
    if not (_NUMBER.fullmatch(answer) and _NUMBER.fullmatch(gold)):
        return None
    equal = Decimal(answer) == Decimal(gold)
    if equal or (_INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold)):
        return _decided(equal, answer, "exact number")
    return None


def _by_math_verify(completion: str, box: str | None, gold: str) -> Verdict:
    parse, equal = _math_verify()
    if not gold or len(gold) > ANSWER_LIMIT or not (wanted := parse(_boxed(gold))):
        return failure("reference unparseable", f"no answer can be read from the reference {gold[:100]!r}")
    found = parse(completion[-SEARCH_LIMIT:] if box is None else _boxed(box))
    if not found:
        where = "in the text, and no box" if box is None else f"in the box {box[:100]!r}"
        return _unparseable("no answer", f"no mathematics {where}")
    # math-verify's list ends with the text that it read; the parsed forms, if any, stand before it.
    answer = str(found[-1]) if box is None else box
    rule = "math-verify: text" if box is None else "math-verify: boxed"
    if equal(wanted, found):
        return _decided(True, answer, rule)
    if len(wanted) == 1 and isinstance(wanted[0], str):
        return failure("reference unparseable", f"the reference {gold[:100]!r} is no mathematics")
    if len(found) == 1 and isinstance(found[0], str):
        return _unparseable("not mathematics", f"{answer[:100]!r} cannot be parsed", answer)
    return _decided(False, answer, rule)


def _boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def _decided(equal: bool, answer: str, rule: str) -> Verdict:
    outcome = Outcome.CORRECT if equal else Outcome.INCORRECT
    return Verdict(outcome, score=float(equal), extracted=answer, rule=rule)


def _unparseable(rule: str, detail: str, extracted: str | None = None) -> Verdict:
    return Verdict(Outcome.UNPARSEABLE, extracted=extracted, rule=rule, detail=detail)


@cache
def _math_verify() -> tuple[Callable[[str], list[Any]], Callable[[list[Any], list[Any]], bool]]:
    """math-verify's ``parse`` and ``verify`` without time-outs and with their errors raised."""
    import math_verify

    # It warns once that time-outs are off; the pool has the deadline.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return (
        partial(math_verify.parse, parsing_timeout=None, raise_on_error=True),
        partial(math_verify.verify, timeout_seconds=None, raise_on_error=True),
    )
