from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.isolation import Pool
from gristmill.verifiers.math import ANSWER_LIMIT, last_box, verify

DATA = Path(__file__).parents[3] / "shared" / "data" / "math"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool("math", workers=2) as pool:
        yield pool


CORRECT = [
    (r"so \boxed{12}", "12", "exact number"),
    (r"\boxed{0.50}", "0.5", "exact number"),
    (r"\boxed{-3}", "-3.0", "exact number"),
    (r"\boxed{1} no, \boxed{2}", "2", "exact number"),
    (r"\boxed{x = \boxed{5}}", "5", "exact number"),
    (r"it is \boxed{7}. Put your answer in \boxed{}.", "7", "exact number"),
    (r"\boxed{7} and then \boxed{8 never closed", "7", "exact number"),
    (r"\boxed{7}", r"\boxed{7}", "exact number"),
    (r"\boxed{0.333333}", r"\frac13", "math-verify: boxed"),
    (r"\boxed{\frac{1}{2}}", "0.5", "math-verify: boxed"),
    (r"\boxed{\frac{1}{2}}", "1/2", "math-verify: boxed"),
    (r"\boxed{1/2}", r"\frac12", "math-verify: boxed"),
    (r"\boxed{\dfrac{\sqrt{8}}{2}}", r"\sqrt{2}", "math-verify: boxed"),
    (r"\boxed{-\frac{3}{4}}", "-0.75", "math-verify: boxed"),
    (r"\boxed{1+x}", "x+1", "math-verify: boxed"),
    (r"\boxed{(a+b)^2}", "a^2+2ab+b^2", "math-verify: boxed"),
    (r"\boxed{1,234}", "1234", "math-verify: boxed"),
    (r"\boxed{\{2, 1\}}", r"\{1,2\}", "math-verify: boxed"),
    (r"\boxed{(1,2]}", "(1,2]", "math-verify: boxed"),
    (r"\boxed{x=5}", "5", "math-verify: boxed"),
    (r"\boxed{10 \text{ cm}}", "10", "math-verify: boxed"),
    (r"\boxed{\text{Monday}}", r"\text{Monday}", "math-verify: boxed"),
    (r"\fbox{$\frac12$}", r"$\frac12$", "math-verify: boxed"),
    ("The answer is 7.", "7", "math-verify: text"),
    ("2 + 3 = 5\n#### 18", "18", "math-verify: text"),
    (r"Hence $x = \frac{1}{2}$.", "0.5", "math-verify: text"),
    ("word " * 10_000 + "The answer is 7.", "7", "math-verify: text"),
]

INCORRECT = [
    (r"\boxed{13}", "12", "exact number"),
    (r"\boxed{-3}", "3", "exact number"),
    (r"\boxed{12} then \boxed{13}", "12", "exact number"),
    (r"\boxed{0.5}", "0.25", "math-verify: boxed"),
    (r"\boxed{\frac13}", "0.5", "math-verify: boxed"),
    (r"\boxed{\{1,2,3\}}", r"\{1,2\}", "math-verify: boxed"),
    (r"\boxed{[1,2]}", "(1,2]", "math-verify: boxed"),
    (r"\boxed{x-1}", "x+1", "math-verify: boxed"),
    ("The answer is 8.", "7", "math-verify: text"),
]

UNDECIDED = [
    ("", "7", Outcome.UNPARSEABLE, "no answer"),
    (" \n", "7", Outcome.UNPARSEABLE, "no answer"),
    ("I do not know.", "7", Outcome.UNPARSEABLE, "no answer"),
    (r"\boxed{)(}", "7", Outcome.UNPARSEABLE, "not mathematics"),
    (r"\boxed{" + "1+" * ANSWER_LIMIT + "1}", "7", Outcome.UNPARSEABLE, "too long"),
    (r"\boxed{x}", "", Outcome.ERROR, "reference unparseable"),
    (r"\boxed{x}", "  ", Outcome.ERROR, "reference unparseable"),
    (r"\boxed{x}", ")(", Outcome.ERROR, "reference unparseable"),
    (r"\boxed{x}", "1+" * ANSWER_LIMIT + "1", Outcome.ERROR, "reference unparseable"),
]


@pytest.mark.parametrize(("completion", "reference", "rule"), CORRECT)
def test_correct(pool: Pool, completion: str, reference: str, rule: str) -> None:
    verdict = pool.verify(completion, reference)
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.CORRECT, 1.0, rule), verdict
    assert verdict.extracted


@pytest.mark.parametrize(("completion", "reference", "rule"), INCORRECT)
def test_incorrect(pool: Pool, completion: str, reference: str, rule: str) -> None:
    verdict = pool.verify(completion, reference)
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.INCORRECT, 0.0, rule), verdict


@pytest.mark.parametrize(("completion", "reference", "outcome", "rule"), UNDECIDED)
def test_undecided(pool: Pool, completion: str, reference: str, outcome: Outcome, rule: str) -> None:
    verdict = pool.verify(completion, reference)
    assert (verdict.outcome, verdict.score, verdict.rule) == (outcome, None, rule), verdict
    assert verdict.detail


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
        (r"\boxed {a}", "a"),
        (r"\\boxed{a}", "a"),
        (r"{ \boxed{a} } } \boxed{", "a"),
        (r"\boxed{a \boxed{b} c}", "b"),
        (r"boxed{a}", None),
        (r"\boxed{ }", None),
        (r"\boxed{", None),
    ],
)
def test_last_box(text: str, content: str | None) -> None:
    assert last_box(text) == content


def test_many_open_boxes_take_linear_time(pool: Pool) -> None:
    assert pool.verify(r"\boxed{3} " + r"\boxed{" * 200_000, "3").correct


HOSTILE = [
    r"9^{9^{9^{9}}}",
    "100!!!!",
    r"\binom{10^9}{5\cdot 10^8}",
    r"\prod_{k=1}^{10^9} k",
    "(x+y+z+w)^{400}",
]


def test_what_hangs_sympy_ends_in_a_timeout_while_others_go_on() -> None:
    with Pool("math", workers=2, deadline=1.0) as pool:
        hanging = [pool.submit(rf"\boxed{{{answer}}}", "1") for answer in HOSTILE]
        fine = [pool.submit(rf"\boxed{{\frac{{{i}}}{{2}}}}", str(i / 2)) for i in range(50)]
        assert [f.result().outcome for f in hanging] == [Outcome.TIMEOUT] * len(HOSTILE)
        assert all(f.result().correct for f in fine)


def test_only_sympy_users_pay_for_sympy() -> None:
    code = (
        "import sys\n"
        "from gristmill.verifiers.math import verify\n"
        "assert verify(r'\\boxed{12}', '12').correct\n"
        "assert not {'sympy', 'math_verify'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_of_math_verify_are_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    import math_verify.grader

    def broken(*_: object) -> bool:
        raise NotImplementedError("no such comparison")

    monkeypatch.setattr(math_verify.grader, "sympy_expr_eq", broken)
    verdict = verify(r"\boxed{x}", "y")
    assert verdict.outcome is Outcome.ERROR
    assert verdict.detail == "NotImplementedError: no such comparison"


def _golds(name: str) -> Iterator[str]:
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"reference data {path} is not there")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if name == "gsm8k":
            yield row["answer"].rpartition("####")[2].strip()
        elif name == "minerva_math":
            yield last_box(row["solution"]) or ""
        elif name == "olympiadbench":
            yield row["final_answer"][0]
        else:
            yield str(row["answer"])


# Share of reference answers that equal themselves, as measured with math-verify 0.9.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("aime24", 1.0),
        ("amc23", 1.0),
        ("gsm8k", 1.0),
        ("math500", 1.0),
        ("minerva_math", 1.0),
        ("olympiadbench", 1.0),
    ],
)
def test_a_reference_equals_itself(pool: Pool, name: str, share: float) -> None:
    golds = list(_golds(name))
    verdicts = [f.result() for f in [pool.submit(rf"The answer is \boxed{{{g}}}.", g) for g in golds]]
    counts = Counter(verdict.outcome.value for verdict in verdicts)
    wrong = [(g, v) for g, v in zip(golds, verdicts, strict=True) if not v.correct]
    print(name, len(golds), dict(counts), wrong)
    assert counts["correct"] >= share * len(golds), wrong[:5]
