"""Texts that mean harm: every one has its verdict in time, and nobody else notices."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile import ANSWERS, PIECES, WHOLE, Pair, Run, children, corpus, placed, resident, soup
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import group
from gristmill.verifiers.pool.pool import Pool

DEADLINE = 2.0
GROWTH = 32 << 20
"""Bytes by which this process may grow over thousands of calls: texts of 1 MB are on the way at all times."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

SIGN = st.sampled_from("+-*/^_,!=")


def nested(parts: tuple[str, str, str]) -> str:
    """An expression of expressions."""
    return f"({parts[0]}{parts[1]}{{{parts[2]}}})"


TEXT = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=2).map(lambda x: "".join(x)[:300]),
    st.text(st.characters(categories=["Nd", "No", "Nl", "Cs", "Cf", "Co"]), max_size=8),
    st.recursive(
        st.sampled_from(["1", "x", "e"]), lambda x: st.tuples(x, SIGN, x).map(nested), max_leaves=12
    ),
)
PAIR = st.tuples(st.one_of(TEXT, TEXT.map(lambda x: rf"\boxed{{{x}}}")), st.one_of(st.just("1"), TEXT))


@pytest.fixture
def run() -> Iterator[Run]:
    before = children()
    with Pool("math", workers=2, deadline=DEADLINE) as pool:
        run = Run(pool)
        run([("1", "1")] * 20)
        yield run
        assert len(pool.pids) <= 2
        assert "Z" not in children().values()
    assert children() == before


def drawn(run: Run, examples: int) -> None:
    """Hypothesis' own texts, twenty at a time."""

    @settings(
        max_examples=examples // 20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(PAIR, min_size=20, max_size=20))
    def judge(pairs: list[Pair]) -> None:
        run(pairs)
        assert run.wrong == []

    judge()


def test_a_few_hundred_hostile_texts(run: Run) -> None:
    first = [pair for answer in ANSWERS[::3] for pair in list(placed(answer))[:2]]
    run([*first, *((text, "1") for text in WHOLE[::2]), *soup(150, seed=1)])
    drawn(run, 60)
    assert run.wrong == []
    assert run.outcomes["timeout (wall limit)"] == 0
    assert run.outcomes["unparseable (limit)"] > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_hostile_texts(run: Run) -> None:
    written = list(corpus())
    run(soup(1_000, seed=2))
    run(written[-2 * len(WHOLE) :])
    settled = resident()
    run(written)
    run(soup(9_000 - 500 - len(written) - 1_000, seed=3))
    growth = resident() - settled
    drawn(run, 1_500)
    print(f"{run.outcomes.total():,} texts, growth {growth >> 20} MiB")
    print(dict(run.outcomes))
    assert run.wrong == []
    assert run.outcomes.total() >= 10_000
    assert run.outcomes["timeout (wall limit)"] == 0
    assert growth < GROWTH


def test_from_threads_and_an_event_loop_at_once(run: Run) -> None:
    answers = ANSWERS[:40]

    async def awaited() -> list[Outcome]:
        calls = (run.pool.averify(rf"\boxed{{{answer}}}", "1") for answer in answers)
        return [verdict.outcome for verdict in await asyncio.gather(*calls)]

    with ThreadPoolExecutor(4) as threads:
        loops = [threads.submit(asyncio.run, awaited()) for _ in range(2)]
        plain = list(threads.map(lambda a: run.pool.verify(rf"\boxed{{{a}}}", "1").outcome, answers))
    assert [loop.result() for loop in loops] == [plain, plain]


def test_hostile_answers_have_classes_too() -> None:
    classes = group(ANSWERS)
    assert sorted(i for one in classes for i in one) == list(range(len(ANSWERS)))
