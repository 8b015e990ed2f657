from __future__ import annotations

from gristmill.engines.breaker import Breaker


def test_it_trips_on_the_share_of_the_last_200() -> None:
    breaker = Breaker(0.5, 64, 30.0)
    for _ in range(150):
        assert breaker.record("answered") is None
    told = [breaker.record("refused") for _ in range(101)]
    assert told[:100] == [None] * 100
    assert told[100] is not None and "101 of the last 200" in told[100] and "50%" in told[100]


def test_it_lives_with_a_steady_share_below_the_limit() -> None:
    breaker = Breaker(0.5, 4, 30.0)
    for i in range(2000):
        assert breaker.record("failed" if i % 5 < 2 else "answered") is None


def test_it_takes_overload_with_progress_for_no_failure() -> None:
    breaker = Breaker(0.5, 4, 30.0)
    for i in range(2000):
        assert breaker.record("answered" if i % 50 == 0 else "congested") is None


def test_it_gives_up_on_overload_without_progress() -> None:
    breaker = Breaker(0.5, 4, patience=0.0)
    told = [breaker.record("congested") for _ in range(20)]
    assert told[:19] == [None] * 19 and told[19] is not None
    patient = Breaker(0.5, 4, patience=60.0)
    assert [patient.record("congested") for _ in range(300)] == [None] * 300
