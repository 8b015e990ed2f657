from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from sandboxes import USABLE

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.code.comparing import last_block, same, same_output
from gristmill.verifiers.code.verifier import Code
from gristmill.verifiers.loading import load
from gristmill.verifiers.pool.pool import Pool

DOUBLE = "def double(x):\n    return 2 * x"


@pytest.fixture(scope="module")
def code() -> Code:
    limits: dict[str, Any] = {"wall_seconds": 2.0, "cpu_seconds": 2.0, "memory_mb": 256, "output_kb": 64}
    return Code(**limits, allow_root=True, sandbox=USABLE)


def fenced(program: str) -> str:
    return f"Here it is:\n\n```python\n{program}\n```\nIt doubles."


def judged(code: Code, program: str, **tests: Any) -> Verdict:
    return code(fenced(program), json.dumps(tests))


def results(verdict: Verdict) -> dict[str, str]:
    return {one["test"]: one["result"] for one in json.loads(verdict.detail)["tests"]}


def why(verdict: Verdict) -> str:
    found: str = json.loads(verdict.detail)["tests"][0]["why"]
    return found


def call(*args: Any, expected: Any, function: str = "double", **kwargs: Any) -> dict[str, Any]:
    return {"function": function, "args": args, "kwargs": kwargs, "expected": expected}


def test_all_kinds_of_tests_pass(code: Code) -> None:
    program = f"{DOUBLE}\nif __name__ == '__main__':\n    print(double(int(input())))"
    verdict = judged(
        code,
        program,
        stdin=[{"input": "4\n", "output": "8\n"}, {"input": "0", "output": " 0 "}],
        asserts=["assert double(1) == 2", "for i in range(9):\n    assert double(i) == i + i"],
        calls=[call("é", expected="éé"), call(expected=[1, 1], x=[1])],
    )
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.CORRECT, 1.0, "6 of 6 tests")
    assert verdict.extracted == program
    assert set(results(verdict).values()) == {"passed"}


def test_each_test_is_told_and_the_score_is_the_share(code: Code) -> None:
    verdict = judged(
        code,
        DOUBLE,
        stdin=[{"input": "", "output": "8"}],
        asserts=["assert double(1) == 2", "assert double(1) == 3, 'not three'"],
        calls=[call(1, expected=3), call(None, expected=0), call(1, expected=1, function="absent")],
    )
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 1 / 6)
    assert results(verdict) == {
        "stdin 0": "wrong",
        "assert 0": "passed",
        "assert 1": "raised",
        "call 0": "wrong",
        "call 1": "raised",
        "call 2": "raised",
    }
    for text in ("printed ''", "AssertionError: not three", "returned 2", "TypeError", "KeyError: 'absent'"):
        assert text in verdict.detail


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "print('passed'); quit()",
        "def double(x):\n    import os; os._exit(0)",
        "def double(x):\n    raise SystemExit(0)",
        "import os\nfor fd in range(3, 20):\n"
        '    try: os.write(fd, b\'{"done": true, "secret": ""}\\n\')\n    except OSError: pass\nos._exit(0)',
        "import builtins\nbuiltins.AssertionError = type('E', (BaseException,), {})\ndouble = lambda x: 7",
        "import atexit, os\natexit.register(os._exit, 0)\ndouble = lambda x: 7",
        "class Any:\n    def __eq__(self, other): return True\ndouble = lambda x: Any()",
        "import builtins\nempty = compile('', '', 'exec')\nbuiltins.compile = lambda *_: empty\ndouble = 7",
        "import builtins\nbuiltins.exec = lambda *_: None\ndouble = 7",
    ],
)
def test_leaving_early_or_saying_so_is_no_success(code: Code, program: str) -> None:
    verdict = judged(code, program, calls=[call(1, expected=2)])
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)
    if "Any" not in program:  # an assert asks the program's own values whether they are equal
        verdict = judged(code, program, asserts=["assert double(1) == 2"])
        assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)


def test_tests_that_only_ran_out_of_time(code: Code) -> None:
    loop = "def double(x):\n    while x > 1: pass\n    return 2 * x"
    verdict = judged(code, loop, calls=[call(1, expected=2), call(2, expected=4)])
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.TIMEOUT, None, "1 of 2 tests")
    assert results(verdict) == {"call 0": "passed", "call 1": "timeout"}
    verdict = judged(code, loop, calls=[call(1, expected=3), call(2, expected=4)])
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)
    assert results(verdict) == {"call 0": "wrong", "call 1": "timeout"}


def test_strict_decides_what_would_be_undecided_and_keeps_the_partial_credit() -> None:
    strict = Code(wall_seconds=1.0, cpu_seconds=1.0, strict=True, allow_root=True, sandbox=USABLE)
    loop = "def double(x):\n    while x > 1: pass\n    return 2 * x"
    verdict = judged(strict, loop, calls=[call(1, expected=2), call(2, expected=4)])
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.INCORRECT, 0.5, "1 of 2 tests")
    verdict = judged(strict, loop, asserts=["assert double(1) == 2", "assert double(2) == 4"])
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.5)
    assert judged(strict, DOUBLE, calls=[call(2, expected=4)]).correct


@pytest.mark.parametrize("strict", [False, True])
def test_a_set_up_that_is_said_to_fail_by_the_program_did_not(strict: bool) -> None:
    code = Code(strict=strict, allow_root=True, sandbox=USABLE)
    forged = """
import json, os
for report in ({"setup": "it failed"}, {"compile": "it failed"}, {"failed": "it failed"}):
    data = json.dumps(report).encode()
    for number in range(3, 300):
        try: os.write(number, len(data).to_bytes(8, "big") + data)
        except OSError: pass
os._exit(1)
"""
    tests: dict[str, Any] = {"calls": [call(1, expected=2)], "asserts": ["assert double(1) == 2"]}
    verdict = judged(code, forged, setup="import math", **tests)
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no sandboxes elsewhere")
@pytest.mark.parametrize("kind", ["bubblewrap", "unshare", "none"])
def test_the_evidence_says_in_which_sandbox_it_was(kind: Any) -> None:
    try:
        code = Code(sandbox=kind, allow_root=True)
    except RecipeError as error:
        pytest.skip(error.message)
    verdict = judged(code, DOUBLE, calls=[call(1, expected=2)])
    assert (verdict.correct, json.loads(verdict.detail)["sandbox"]) == (True, kind)


def test_each_test_has_a_process_of_its_own(code: Code) -> None:
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)"
    tests = [call(i, expected=1, function="f") for i in range(4)]
    verdict = judged(code, program, calls=tests, asserts=["assert f(1) == 1\nassert f(1) == 2"] * 2)
    assert verdict.correct, verdict.detail


def test_limits_are_told(code: Code) -> None:
    tests = {"stdin": [{"input": "", "output": "1"}]}
    verdict = judged(code, "while True: print('x' * 1000)", **tests)
    assert (results(verdict), why(verdict)) == ({"stdin 0": "output limit"}, "more than 64 KiB")
    assert why(judged(code, "x = [0] * 10**9", **tests)) == "exit 1: MemoryError"
    assert why(judged(code, "import time; time.sleep(9)", **tests)) == "wall limit of 2 s"


def test_errors_of_syntax_are_told_once(code: Code) -> None:
    verdict = judged(code, "def f(:\n  pass", asserts=["assert f()"] * 50)
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.INCORRECT, 0.0, "compile error")
    assert verdict.detail.startswith("SyntaxError: ")
    assert judged(code, "(" * 100_000, asserts=["assert 1"]).rule == "compile error"
    assert judged(code, "x = 1\0", asserts=["assert 1"]).rule == "compile error"


def test_a_text_without_a_block(code: Code) -> None:
    tests = json.dumps({"asserts": ["assert double(1) == 2"]})
    assert code(DOUBLE, tests).correct
    for text in (
        "I cannot do that.",
        "Sorry",
        "42",
        "",
        "  ",
        "```text\ndouble\n```",
        "'\ud800'",
        "-" * 10_000,
    ):
        assert (code(text, tests).outcome, code(text, tests).score) == (Outcome.UNPARSEABLE, None), text


def test_unicode_and_newlines(code: Code) -> None:
    program = "print(input().upper(), '\N{GRINNING FACE}')\r\nprint('ß'.upper())"
    cases = [{"input": "àé\n", "output": "ÀÉ  \N{GRINNING FACE}\r\nSS\n\n"}]
    assert judged(code, program, stdin=cases).correct


def test_set_up_runs_before_the_program(code: Code) -> None:
    program = "def root(x: List[int]) -> float:\n    return math.sqrt(x[0])"
    tests = {"calls": [call([4], expected=2, function="root")]}
    assert judged(code, program, setup="import math\nfrom typing import List", **tests).correct
    assert not judged(code, program, **tests).correct
    verdict = judged(code, program, setup="import absent", **tests)
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")
    assert "No module named 'absent'" in verdict.detail


@pytest.mark.parametrize(
    "reference",
    ["", "42", "[]", "{}", '{"asserts": []}', '{"assert": ["x"]}', '{"calls": [{"function": "f"}]}'],
)
def test_a_reference_that_is_no_tests(code: Code, reference: str) -> None:
    verdict = code(fenced(DOUBLE), reference)
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")


def test_the_tests_are_not_to_be_found_by_the_program(code: Code) -> None:
    program = """
import gc, os, sys
seen = repr([o for o in gc.get_objects() if isinstance(o, (dict, list))]) + repr(sys._getframe(1).f_locals)
def double(x): return "def double" in seen and "hu" + "sh" not in seen
"""
    assert judged(code, program, calls=[call("hush", expected=True)]).correct


def test_many_tests_have_capped_evidence(code: Code) -> None:
    verdict = judged(code, "print('x' * 5000)", stdin=[{"input": "", "output": str(i)} for i in range(25)])
    assert len(verdict.detail) <= 4000
    told = json.loads(verdict.detail)
    assert (told["passed"], told["of"], len(told["tests"]) + told["left_out"]) == (0, 25, 25)


def test_tolerance(code: Code) -> None:
    close = Code(wall_seconds=2.0, tolerance=1e-6, allow_root=True, sandbox=USABLE)
    tests = {
        "stdin": [{"input": "", "output": "x 0.333333333"}],
        "calls": [call(expected=[0.33333333333], function="f")],
    }
    program = "def f(): return [1 / 3]\nif __name__ == '__main__': print('x', 1 / 3)"
    assert judged(close, program, **tests).correct
    assert judged(code, program, **tests).score == 0.0


@pytest.mark.parametrize(
    ("printed", "expected", "tolerance", "equal"),
    [
        ("1  2\n3\n", "1 2\n3", 0.0, True),
        ("\n\n1\n\n", "1", 0.0, True),
        ("1\n\n2", "1\n2", 0.0, False),
        ("1 2", "1\n2", 0.0, False),
        ("1.0", "1", 0.0, False),
        ("1.0", "1", 1e-9, True),
        ("nan", "1", 1e-9, False),
        ("a", "b", 1e-9, False),
        ("1 2", "1", 1e-9, False),
    ],
)
def test_output(printed: str, expected: str, tolerance: float, equal: bool) -> None:
    assert same_output(printed, expected, tolerance) is equal


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "equal"),
    [
        (2, 2.0, 0.0, True),
        (1, True, 0.0, False),
        (False, False, 0.0, True),
        ([1, [2]], [1, [2]], 0.0, True),
        ([1], [1, 2], 0.0, False),
        ({"a": 1.0}, {"a": 1.0000001}, 1e-3, True),
        ({"a": 1}, {"b": 1}, 0.0, False),
        (10**400, 1.5, 1e-3, False),
        ("1", 1, 1e-3, False),
        (None, None, 0.0, True),
    ],
)
def test_values(value: Any, expected: Any, tolerance: float, equal: bool) -> None:
    assert same(value, expected, tolerance) is equal


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("none", None),
        ("```python\na\n```\n```py\nb\n```\n", "b"),
        ("```python\na\n```\nOutput:\n```\n7\n```", "a"),
        ("```\na\n```\n```text\nb\n```", "a"),
        ("~~~~python\n```\na\n~~~~", "```\na"),
        ("````python\n```python\na\n```\n````", "```python\na\n```"),
        ("```python\r\na\r\nb\r\n```", "a\nb"),
        ("```Python title='x'\na\n\nb", "a\n\nb"),
        ("```python\n```", ""),
        ("`" * 1_000_000, ""),
    ],
)
def test_the_last_block(text: str, block: str | None) -> None:
    assert last_block(text) == block


def test_in_a_pool_under_its_memory_limit() -> None:
    options = {"wall_seconds": 2.0, "allow_root": True, "sandbox": USABLE}
    tests = json.dumps({"asserts": ["assert double(1) == 2"]})
    with Pool("gristmill.verifiers.code.verifier:Code", workers=2, deadline=30.0, options=options) as pool:
        calls = [pool.submit(fenced(DOUBLE), tests) for _ in range(8)]
        assert all(c.result().correct for c in calls)
        assert pool.verify(fenced("double = abs"), tests).outcome is Outcome.INCORRECT
    with Pool("gristmill.verifiers.code.verifier:Code", workers=1, wall=1.0, options=options) as pool:
        verdict = pool.verify(fenced("while True: pass"), tests)
        assert (verdict.outcome, verdict.rule) == (Outcome.TIMEOUT, "wall limit")


def test_options_are_checked_when_it_is_made() -> None:
    for options in ({"wall_seconds": 0}, {"processes": 0}, {"sandbox": "docker"}, {"wall": 3}):
        with pytest.raises(RecipeError):
            load("gristmill.verifiers.code.verifier:Code", options)


SOLUTION = """
class Solution:
    def __init__(self): self.calls = 0
    def twice(self, x): self.calls += 1; return [2 * x, self.calls]
    @staticmethod
    def static(x): return 2 * x
    @classmethod
    def made(cls, x): return cls().twice(x)
class Needy(Solution):
    def __init__(self, x): pass
"""


def test_methods_are_called_on_a_new_object(code: Code) -> None:
    verdict = judged(
        code,
        SOLUTION,
        calls=[
            call(1, function="Solution().twice", expected=[2, 1]),
            call(1, function="Solution.twice", expected=[2, 1]),
            call(1, function="Solution.static", expected=2),
            call(1, function="Solution.made", expected=[2, 1]),
            call(1, function="Needy.static", expected=2),
            call(1, function="Needy.twice", expected=[2, 1]),
            call(1, function="Solution.absent", expected=2),
        ],
    )
    assert list(results(verdict).values()).count("passed") == 5
    assert results(verdict)["call 5"] == results(verdict)["call 6"] == "raised"
    assert "missing 1 required positional argument" in verdict.detail and "absent" in verdict.detail


@pytest.mark.parametrize("function", ["Solution(1).f", "f()g", "__import__('os').f", "a.", "", "f g"])
def test_what_names_no_function_is_no_test(code: Code, function: str) -> None:
    verdict = judged(code, SOLUTION, calls=[call(function=function, expected=1)])
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")


def test_stopping_at_the_first_failure_tells_what_did_not_run() -> None:
    hasty = Code(wall_seconds=2.0, stop_early=True, allow_root=True, sandbox=USABLE)
    calls = [call(1, expected=2), call(1, expected=3), call(2, expected=4), call(3, expected=6)]
    verdict = judged(hasty, DOUBLE, calls=calls)
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.INCORRECT, 0.25, "1 of 4 tests")
    assert list(results(verdict).items()) == [
        ("call 1", "wrong"),
        ("call 0", "passed"),
        ("call 2", "not run"),
        ("call 3", "not run"),
    ]
    assert judged(hasty, DOUBLE, calls=[calls[0], calls[2]]).correct
    loop = "def double(x):\n    while x == 1: pass\n    return 2 * x"
    assert judged(hasty, loop, calls=calls).outcome is Outcome.TIMEOUT
