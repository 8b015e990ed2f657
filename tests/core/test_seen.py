from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core import seen as seen_module
from gristmill.core.seen import Seen


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 20) | st.integers(0, 2**64 - 1) | st.sampled_from([0, 1024, 2048, 2**63])))
def test_it_is_a_set(keys: list[int]) -> None:
    seen, known = Seen(), set[int]()
    for key in keys:
        assert seen.add(key) == (key not in known)
        known.add(key)
    assert len(seen) == len(known)


def test_it_grows_and_keeps_what_it_has_in_a_few_bytes_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "_START", 1 << 13)
    draw = random.Random(1)
    keys = [draw.getrandbits(64) for _ in range(60_000)]
    tracemalloc.start()
    seen = Seen()
    assert all(seen.add(key) for key in keys)
    bytes_each = tracemalloc.get_traced_memory()[0] / len(keys)
    tracemalloc.stop()
    assert not any(seen.add(key) for key in keys)
    assert bytes_each < 24
