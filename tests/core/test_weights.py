from __future__ import annotations

from gristmill.core.weights import batch, weight


def test_a_batch_ends_by_number_or_by_bytes() -> None:
    items = iter(["x" * 100] * 10)
    assert len(batch(items, 4, 10_000)) == 4
    assert [len(text) for text, _ in batch(items, 4, 150)] == [100, 100]
    assert len(batch(items, 100, 10_000)) == 4
    assert batch(items, 4, 10_000) == []


def test_what_cannot_be_encoded_is_weighed_as_text() -> None:
    assert weight("x" * 1000) >= 1000
    assert weight({"n": 2**80, "t": "x" * 1000}) >= 1000
    assert weight("\ud800" * 1000) >= 1000
    assert weight(object()) > 0
