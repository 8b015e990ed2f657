"""How the tests of one program went, and the verdict and the evidence that follow from it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import failure

_WHY = 200
_DETAIL = 4000
"""Characters of the evidence on one test, and on all."""

PASSED, WRONG, RAISED, TIMEOUT = "passed", "wrong", "raised", "timeout"
NOT_RUN, SANDBOX, REFUSED, BROKEN = "not run", "sandbox", "refused", "broken"
ENDED = "ended its sandbox"
_ORDER = {PASSED: 1, NOT_RUN: 2}


class Told(NamedTuple):
    """One test: its name, how it went, and why if it did not pass."""

    test: str
    result: str
    why: str


def verdict_on(told: list[Told], program: str, sandbox: str, *, strict: bool) -> Verdict:
    """The verdict on ``program`` from its tests; the score is the share that passed.

    One test that it plainly fails makes it ``incorrect``, and so does ending or stopping the sandbox from
    within. ``strict``: so does one that ran out of time or for which there was no sandbox. A test that cannot
    be judged apart from the program leaves it ``unparseable``.
    """
    passed = sum(one.result == PASSED for one in told)
    rule, detail = f"{passed} of {len(told)} tests", _detail(told, passed, sandbox)
    others = {one.result for one in told} - {PASSED, NOT_RUN}
    if BROKEN in others:
        why = next(f"{one.test}: {one.why}" for one in told if one.result == BROKEN)
        return failure("reference unparseable", why)
    undecided = {REFUSED} if strict else {REFUSED, TIMEOUT, SANDBOX}
    if not others or others - undecided:
        return decided(not others, rule=rule, score=passed / len(told), extracted=program, detail=detail)
    if SANDBOX in others:
        why = next(one.why for one in told if one.result == SANDBOX)
        return failure("sandbox", f"{why} (sandbox: {sandbox})")
    if REFUSED in others:
        return unparseable("tests that cannot be judged", detail, program)
    return Verdict(Outcome.TIMEOUT, extracted=program, rule=rule, detail=detail)


def _detail(told: list[Told], passed: int, sandbox: str) -> str:
    """The tests as JSON; of many, as many as there is room for: those that did not pass, passed, ran not."""
    found: dict[str, Any] = {"passed": passed, "of": len(told), "sandbox": sandbox, "tests": []}
    room = _DETAIL - 90
    for one in sorted(told, key=lambda one: _ORDER.get(one.result, 0)):
        shown = {"test": one.test, "result": one.result, "why": one.why[:_WHY]}
        if not one.why:
            del shown["why"]
        room -= len(json.dumps(shown)) + 1
        if room < 0:
            found["left_out"] = len(told) - len(found["tests"])
            break
        found["tests"].append(shown)
    return json.dumps(found, separators=(",", ":"))
