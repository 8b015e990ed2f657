"""Texts of asserts, which run beside the program and never in its process."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from sandboxes import USABLE

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.code.separation import Inseparable, borrowed, check_apart
from gristmill.verifiers.code.verifier import Code


@pytest.fixture(scope="module")
def code() -> Code:
    return Code(allow_root=True, sandbox=USABLE)


def judged(code: Code, program: str, *asserts: str, setup: str = "") -> Verdict:
    reference = json.dumps({"asserts": asserts, "setup": setup})
    return code(f"```python\n{program}\n```", reference)


STACK = """
class Stack:
    def __init__(self): self.x = []
    def push(self, v): self.x.append(v); return self
    def pop(self): return self.x.pop()
    def __len__(self): return len(self.x)
    def __enter__(self): return self
    def __exit__(self, *_): self.x = []
class Empty(Exception): pass
def check(s):
    if not s.x: raise Empty("nothing in it")
"""
LIST = """
class ListNode:
    def __init__(self, val=0, next=None): self.val, self.next = val, next
def made(values):
    head = None
    for value in reversed(values): head = ListNode(value, head)
    return head
def read(head):
    found = []
    while head: found.append(head.val); head = head.next
    return found
"""
REVERSED = """
class ListNode:
    def __init__(self, val=0, next=None): self.val, self.next = val, next
class Solution:
    def reverse(self, head):
        before = None
        while head: head.next, before, head = before, head, head.next
        return before
"""
VALUES = """
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
import datetime, enum
Point = namedtuple("Point", "x y")
class Color(enum.IntEnum): RED = 1
def values():
    return [{1, 2}, frozenset("a"), (1, (2, [None])), 1 + 2j, b"x", range(3), Fraction(1, 3), Decimal("1.50"),
            datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3), datetime.timedelta(1), float("inf"),
            10**5000, "\\ud800 é", {1: "a", (2, 3): [4]}, deque([1]), bytearray(b"y"), True]
def point(): return Point(1, 2)
def counted(): return Counter("aab")
def grouped():
    found = defaultdict(list); found[1].append(2); return found
def color(): return Color.RED
"""

RIGHT = {
    "mutation": (
        "def f(xs): xs.sort()\ndef g(m): m['a'][0] += 1\ndef h(s): s.add(3); s.discard(1)",
        "x = [3, 1]\nassert f(x) is None\nassert x == [1, 3]",
        "d = {'a': [1]}\nl = d['a']\ng(d)\nassert l == [2] and d['a'] is l",
        "s = {1, 2}\nh(s)\nassert s == {2, 3}",
    ),
    "objects": (
        STACK,
        "s = Stack()\ns.push(1).push(2)\nassert s.pop() == 2\nassert len(s) == 1\nassert s.x == [1]",
        "s = Stack()\ns.x = [5]\nassert s.pop() == 5\nassert not s",
        "with Stack() as s:\n    s.push(1)\nassert s.x == []",
        "assert Stack().__class__.__name__ == 'Stack'\nassert callable(Stack)",
    ),
    "errors": (
        STACK + "def f(n):\n    raise ValueError('negative')",
        "try:\n    f(-1)\nexcept ValueError as e:\n    assert str(e) == 'negative'\nelse:\n    assert False",
        "try:\n    check(Stack())\nexcept Empty as e:\n    assert 'in it' in str(e)\nelse:\n    assert 0",
        "try:\n    check(Stack())\nexcept Exception as e:\n    assert type(e).__name__ == 'Empty'",
        "import unittest\nwith unittest.TestCase().assertRaises(ValueError):\n    f(1)",
    ),
    "functions given to it": (
        "def app(f, *x): return f(*x)\nfrom functools import reduce\ndef fold(f, xs): return reduce(f, xs)",
        "assert app(lambda v: v + 1, 2) == 3",
        "assert app(len, [1, 2]) == 2",
        "import math, operator\nassert app(math.sqrt, 4) == 2.0\nassert fold(operator.add, [1, 2]) == 3",
        "def inner(x):\n    return app(abs, x)\nassert app(inner, -3) == 3",
        "def bad(x):\n    return {}[x]\ntry:\n    app(bad, 1)\n    assert 0\nexcept KeyError:\n    pass",
        "assert app(int, '7') == 7\nassert app(sorted, (x for x in [2, 1])) == [1, 2]",
    ),
    "generators": (
        "def gen(n):\n    for i in range(n): yield i\ndef pairs(d): return d.items()",
        "assert list(gen(3)) == [0, 1, 2]",
        "g = gen(2)\nassert next(g) == 0\nassert next(g) == 1\nassert next(g, None) is None",
        "assert 2 in gen(3) and 5 not in gen(3)",
        "assert sorted(pairs({1: 2, 0: 3})) == [(0, 3), (1, 2)]",
    ),
    "kinds of values": (
        VALUES,
        "from collections import deque\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
        "import datetime\n"
        "assert values() == [{1, 2}, frozenset('a'), (1, (2, [None])), 1 + 2j, b'x', range(3), "
        "Fraction(1, 3), Decimal('1.5'), datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3), "
        "datetime.timedelta(1), float('inf'), 10**5000, '\\ud800 é', {1: 'a', (2, 3): [4]}, deque([1]), "
        "bytearray(b'y'), True]",
        "assert point() == (1, 2) and point().x == 1 and isinstance(point(), tuple) and point()[1] == 2",
        "assert counted() == {'a': 2, 'b': 1} and counted()['z'] == 0",
        "assert grouped() == {1: [2]}",
        "assert color() == 1 and color() + 1 == 2 and color() < 2 and hash(color()) == 1",
        "a, *b = values()\nassert a == {1, 2} and len(b) == 17",
    ),
    "a name of Python's": (
        "def sum(a, b): return a + b",
        "assert sum(1, 2) == 3",
    ),
    "modules that only the program imports": (
        "import math\ndef area(r): return math.pi * r * r",
        "assert math.isclose(area(1), 3.14159265, rel_tol=1e-6)",
        "assert abs(area(1) - 3.14159265) < 1e-6",
        "assert round(area(1), 2) == 3.14",
    ),
    "a coroutine": ("async def f(x): return x + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"),
    "a check of a candidate": (
        "def has(a, t):\n    return any(abs(x - y) < t for i, x in enumerate(a) for y in a[i + 1:])",
        "METADATA = {}\ndef check(candidate):\n    assert candidate([1.0, 3.9], 0.3) == False\n"
        "    assert candidate([1.0, 1.1], 0.3) == True\ncheck(has)",
    ),
    "properties": (
        "def f(): return [1, 2]",
        "r = f()\nassert len(r) == len(set(r))",
        "assert all(x > 0 for x in f())",
        "for i, x in enumerate(f()):\n    assert x == i + 1",
        "assert f() != [1]",
    ),
    "calculated from two of its objects": (
        "class V:\n    def __init__(self, x): self.x = x\n    def __add__(s, o): return V(s.x + o.x)",
        "assert (V(1) + V(2)).x == 3",
    ),
    "constants": (
        "LIMIT = 10\ndef f(*a, k=1, **c): return [a, k, c]",
        "assert f(1, k=2, z=3) == [(1,), 2, {'z': 3}]",
    ),
    "recursion": (
        "import sys\nsys.setrecursionlimit(10000)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)",
        "assert f(5000) == 5000",
    ),
    "its own exit functions and threads": (
        "import atexit, threading, time\nthreading.Thread(target=time.sleep, args=(9,)).start()\n"
        "atexit.register(time.sleep, 9)\ndef f(x): return x",
        "assert f(1) == 1",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_pass(code: Code, name: str) -> None:
    program, *asserts = RIGHT[name]
    verdict = judged(code, program, *asserts)
    assert verdict.correct, verdict.detail


def test_the_classes_of_the_set_up_are_known_on_both_sides(code: Code) -> None:
    test = "assert read(Solution().reverse(made([1, 2, 3]))) == [3, 2, 1]"
    verdict = judged(code, REVERSED, test, setup=LIST)
    assert verdict.correct, verdict.detail
    ring = "n = made([1, 2])\nn.next.next = n\nassert first(n) == 1 and n.next.next is n"
    verdict = judged(code, "def first(n):\n    assert n.next.next is n\n    return n.val", ring, setup=LIST)
    assert verdict.correct, verdict.detail
    forged = "def f(n):\n    n.read = lambda: 7\n    return n"
    setup = LIST + "ListNode.read = lambda self: self.val"
    verdict = judged(code, forged, "assert f(made([1])).read() == 7", setup=setup)
    assert "whose method read was replaced" in verdict.detail and verdict.score == 0.0


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(x): return x + 1", "assert f(1) == 3"),
        ("def f(x): return [x]", "assert f(1) == (1,)"),
        ("def f(x): return object()", "assert f(1) == 3"),
        ("def f(x): return object()", "assert 3 in [f(1)]"),
        ("def f(x): pass", "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError"),
        ("import os\ndef f(x): os._exit(0)", "try:\n    f(-1)\nexcept:\n    pass"),
        ("def f(x): raise SystemExit", "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass"),
        ("def g(x): pass", "assert f(1) == 3"),
        ("import sys\nsys.exit()\ndef f(x): return 3", "assert f(1) == 3"),
        ("math = 1\nabs = lambda x: 0\ndef f(x): return 9", "assert abs(f(1) - 2) < 1e-6"),
        ("class np:\n    allclose = lambda *_: True\ndef f(x): return 9", "assert np.allclose(f(1), [1])"),
        ("class math:\n    isclose = lambda *_: True\ndef f(x): return 9", "assert math.isclose(f(1), 2)"),
    ],
)
def test_wrong_programs_do_not(code: Code, program: str, test: str) -> None:
    verdict = judged(code, program, test)
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0), verdict.detail


V = """
class V:
    def __init__(self, x): self.x = x
    def __eq__(s, o): return True
    __add__ = __lt__ = __eq__
"""
CANNOT = [
    (V, "assert V(1) == V(2)", "the program on both sides"),
    (V + "\ndef f(x): return 0\nV = f", "a = V(1) \nb = V(2)\nassert a == b", "the program on both sides"),
    ("f = g = lambda x: 0", "assert f(1) == g(1)", "the program on both sides"),
    ("f = g = lambda x: 0", "for x in g(1):\n    assert x == f(1)", "the program on both sides"),
    (V + "\ndef f(x): return V(x)", "assert [f(1), f(1)].count(f(2)) == 1", "two objects of the program"),
    (V + "\ndef f(x): return V(x)", "assert f(1) < 3", "calculates or compares with the program's V"),
    (V + "\ndef f(x): return V(x)", "assert 3 - f(1) < 3", "calculates or compares with the program's V"),
    (V + "\ndef f(x): return V(x)", "assert isinstance(f(1), V)", "is one of its"),
    ("abs = sum = lambda *_: 0", "assert abs(sum(1, 2)) == 0", "cannot be told"),
    (V + "\ndef f(x): return V(x)", "try:\n    f(1) < 3\nexcept BaseException:\n    pass", "calculates or"),
    ("def f(x): return 1", "class A: pass\nassert f(A()) == 1", "cannot be sent"),
]


@pytest.mark.parametrize(("program", "test", "why"), CANNOT)
def test_what_cannot_be_judged_apart_is_refused_with_the_reason(
    code: Code, program: str, test: str, why: str
) -> None:
    verdict = judged(code, program, test)
    assert (verdict.outcome, verdict.score) == (Outcome.UNPARSEABLE, None), verdict.detail
    assert why in verdict.detail and verdict.rule == "tests that cannot be judged"


def test_a_test_that_fails_decides_beside_one_that_cannot_be_judged(code: Code) -> None:
    verdict = judged(
        code, "f = g = lambda x: 0", "assert f(1) == g(1)", "assert f(1) == 1", "assert f(1) == 0"
    )
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 1 / 3)


def test_a_text_that_does_not_compile_is_the_references_fault(code: Code) -> None:
    verdict = judged(code, "f = abs", "assert f(")
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")
    assert "assert 0: SyntaxError" in verdict.detail


@pytest.mark.parametrize(
    ("test", "known", "names"),
    [
        ("assert f(1) == 2", (), {"f"}),
        ("x = [1]\nfor y in x:\n    assert f(y) == x", (), {"f"}),
        ("def g(a):\n    return a + b\nassert g(f(1))", (), {"b", "f"}),
        ("import math\nassert math.floor(f(1)) == abs(2)", (), {"f"}),
        ("assert math.floor(f(1)) == np.abs(2)", (), {"f"}),
        ("assert check(f(1))", ("check",), {"f"}),
        ("assert [x for x in f(1)] == [1]", (), {"f"}),
        ("assert Solution().f(1) == 2", (), {"Solution"}),
        ("assert sum(1, 2) == 3", (), {"sum"}),
        ("assert queue([1]) == 1", (), {"queue"}),
        ("assert 1 == 1", (), set()),
    ],
)
def test_which_names_are_the_programs(test: str, known: Any, names: set[str]) -> None:
    assert borrowed(ast.parse(test), test, set(known)) == names


@pytest.mark.parametrize(
    "test",
    [
        "assert f(1) == f(2)",
        "x = y = f(1)\nz = f(2)\nassert x != z",
        "def check(a, b):\n    assert a == b\ncheck(f(1), f(2))",
        "def check(a, b):\n    assert a == b\ncheck(f(1), b=f(2))",
        "def twice(x):\n    return f(f(x))\nassert twice(1) == f(2)",
        "with f(1) as x:\n    assert x == f(2)",
        "assert [y for y in f(1)] == f(3)",
        "assert 0 < f(1) < f(2)",
        "s = f()\nassert s.size() == s.length()",
        "if (x := f(1)) == f(2):\n    pass",
        "x = 0\nx += f(1)\nassert x == f(2)",
    ],
)
def test_comparisons_of_the_program_with_itself(test: str) -> None:
    with pytest.raises(Inseparable, match="both sides"):
        check_apart(ast.parse(test), {"f"})


def test_comparisons_of_the_program_with_something_else() -> None:
    for test in (
        "assert f(f(1)) == 2",
        "x = f(1)\nassert x == sorted([1])\ny = f(2)\nassert y == 3",
        "def check(a, b):\n    assert a == b\ncheck(f(1), 2)",
        "r = f(1)\nassert len(r) == len(set(r))",
        "assert 0 < f(1) < 10",
    ):
        check_apart(ast.parse(test), {"f"})
