from __future__ import annotations

from gristmill.engines.breaker import Breaker


def test_it_trips_on_the_share_of_the_last_200() -> None:
    breaker = Breaker(0.5, 64, 30.0, 600.0)
    for _ in range(150):
        assert breaker.record("answered") is None
    told = [breaker.record("refused") for _ in range(101)]
    assert told[:100] == [None] * 100
    assert told[100] is not None and "101 of the last 200" in told[100] and "50%" in told[100]


def test_it_lives_with_a_steady_share_below_the_limit() -> None:
    breaker = Breaker(0.5, 4, 30.0, 600.0)
    for i in range(2000):
        assert breaker.record("failed" if i % 5 < 2 else "answered") is None


def test_it_takes_overload_with_progress_for_no_failure() -> None:
    breaker = Breaker(0.5, 4, 30.0, 600.0)
    for i in range(2000):
        assert breaker.record("answered" if i % 50 == 0 else "congested") is None


def test_it_gives_up_on_overload_without_progress() -> None:
    breaker = Breaker(0.5, 4, patience=0.0, timeout=600.0)
    told = [breaker.record("congested") for _ in range(20)]
    assert told[:19] == [None] * 19 and told[19] is not None
    patient = Breaker(0.5, 4, patience=60.0, timeout=600.0)
    assert [patient.record("congested") for _ in range(300)] == [None] * 300


def test_refusals_of_single_prompts_never_trip_it() -> None:
    breaker = Breaker(0.5, 4, 30.0, 600.0)
    assert [breaker.record("own") for _ in range(500)] == [None] * 500


def test_refusals_for_the_pace_trip_it_only_where_nothing_else_comes_for_long() -> None:
    patient = Breaker(0.5, 4, patience=0.0, timeout=600.0)
    assert [patient.record("limited") for _ in range(300)] == [None] * 300
    told = Breaker(0.5, 4, patience=0.0, timeout=0.0).record("limited")
    assert told is not None and "limit" in told


def test_silence_trips_it_once_two_requests_met_it() -> None:
    breaker = Breaker(0.5, 4, patience=60.0, timeout=0.0)
    assert [breaker.record("silent", "a") for _ in range(5)] == [None] * 5, "one slow prompt is its own"
    told = breaker.record("silent", "b")
    assert told is not None and "answered nothing" in told
    patient = Breaker(0.5, 4, patience=60.0, timeout=600.0)
    assert [patient.record("silent", i) for i in range(5)] == [None] * 5
