"""Which statements are seen, and which of them are true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.verifiers.rules.arithmetic import sound, statements


@pytest.mark.parametrize(
    ("text", "truths"),
    [
        ("7 + 5 = 12. So it fits.", [True]),
        ("7 + 5 = 13.", [False]),
        ("5 + 4 = 9 and 9 - 2 = 7. \\boxed{7}", [True, True]),
        ("2 + 3 = 5 = 6", [True, False]),
        ("9 - 4 = 5, and 5 != 6. [VERIFY] wrong.", [True, True]),
        ("9 - 4 = 5. 5 is not 5.", [True, False]),
        ("12 equals 12", [True]),
        ("3 \\times 4 = 12", [True]),
        ("12 ÷ 5 = 2.4", [True]),
        ("1,200 + 1 = 1201", [True]),
        ("(2 + 3) * 4 = 20", [True]),
        ("$3 + $4 = $8", [False]),
        ("-3 - -4 = 1", [True]),
        ("7 < 8 and 8 < 7", [True, False]),
        ("1 / 0 = 3", []),
        ("x + 3 = 7", []),
        ("2^3 = 9", [False]),
        ("15 is 13 + 5 = 18", [False, True]),
        ("13 plus 5 is 19.", [False]),
        ("13 plus 5 is 18, so it fits.", [True]),
        ("Six times seven is forty-one.", [False]),
        ("Six times seven makes forty-two.", [True]),
        ("The sum of 3 and 4 is 8.", [False]),
        ("20% of 50 is 10.", [True]),
        ("Half of 10 gives 4.", [False]),
        ("12 divided by 4 leaves 3", [True]),
        ("3 squared is 8", [False]),
        ("\\frac{1}{2} + \\frac{1}{3} = \\frac{1}{6}", [False]),
        ("\\frac{1}{2} + \\frac{1}{3} = \\frac{5}{6}", [True]),
        ("3 apples + 5 apples = 9 apples", [False]),
        ("2 x 3 = 7", [False]),
        ("Is 3 + 4 = 8? No.", []),
        ("5 is 2 more than 3.", []),
        ("15 is 3 times 5", [True]),
        ("10 is 50% of 20", [True]),
        ("Step 3 is 5 + 4, which we do now.", []),
        ("3 + 5 is 8 more than 0", []),
        ("There are 12 months, and 7 of them are over.", []),
        ("3 + 4 = 5x", []),
        ("There are 7 apples and 5 pears.", []),
        ("(((( = 3", []),
        ("", []),
    ],
)
def test_statements(text: str, truths: list[bool]) -> None:
    assert [t for _, t in statements(text)] == truths


def test_sound_wants_as_many_statements_as_asked() -> None:
    assert sound("no numbers at all")
    assert not sound("no numbers at all", at_least=1)
    assert not sound("1 + 1 = 2 and 1 + 1 = 3", at_least=1)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-3, 3))
def test_every_sum_is_decided_rightly(a: int, b: int, off: int) -> None:
    assert [t for _, t in statements(f"So {a} + {b} = {a + b + off}.")] == [off == 0]


@given(st.text(alphabet="0123456789+-*/()=.<> \\x", max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert all(isinstance(t, bool) for _, t in statements(text))


@pytest.mark.parametrize(
    "text",
    [
        "4^0 mod 9 = 1",
        r"\((3^5)^{21} \mod 11 = 1^{21} \mod 11 = 1\)",
        "2 + 3 = 0 (mod 5), or 7 = 2 mod 5",
        r"7 = 1 \pmod 3",
        "101 choose 2 = 5050, (99+3-1) choose (3-1) = 101",
        "f'(1) = 0",
        "5 C 2 = 10 and log 100 = 2",
    ],
)
def test_a_part_of_an_operation_that_is_not_calculated_is_no_statement(text: str) -> None:
    assert statements(text) == []
    # What stands beside it is still looked at.
    assert statements(f"{text}; so 2 + 3 = 6")[-1:] == [("2 + 3 = 6", False)]
