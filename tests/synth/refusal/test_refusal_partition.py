from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.synth.refusal.partition import Part, Partition

NAMES = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]


def divide(
    partition: Partition,
    questions: list[str],
    strata: list[str | None] | None = None,
    domains: list[str | None] | None = None,
    seed: int = 0,
) -> list[Part]:
    n = len(questions)
    ids = [f"q{i}" for i in range(n)]
    return partition(ids, questions, domains or [None] * n, strata or ["sure"] * n, seed)


def places(n: int) -> list[str]:
    return [f"Where does {name} lie?" for name in NAMES[:n]]


def test_all_is_training_data_unless_a_share_or_a_domain_is_set() -> None:
    assert divide(Partition(), places(5)) == ["train"] * 5


def test_each_stratum_gives_its_share_to_the_test() -> None:
    strata: list[str | None] = [("sure", "unsure", "unsure", None)[i % 4] for i in range(120)]
    parts = divide(Partition(test=0.25), places(120), strata)
    counts = Counter(zip(parts, strata, strict=True))
    assert (counts["test", "sure"], counts["test", "unsure"], counts["test", None]) == (8, 15, 8)
    assert (counts["train", "sure"], counts["train", "unsure"], counts["train", None]) == (22, 45, 22)
    loose = Counter(divide(Partition(test=0.25, stratify=False), places(120), strata))
    assert loose == {"test": 30, "train": 90}


@pytest.mark.parametrize(("share", "n", "wanted"), [(0.1, 5, 1), (0.1, 4, 0), (0.3, 10, 3), (0.5, 3, 2)])
def test_shares_are_rounded_to_the_nearest_halves_up(share: float, n: int, wanted: int) -> None:
    assert divide(Partition(test=share), places(n)).count("test") == wanted


def test_near_duplicates_stay_on_one_side() -> None:
    questions = [
        q for place in NAMES[:60] for q in (f"Where does {place} lie?", f"So, where does {place} lie?")
    ]
    parts = divide(Partition(test=0.3), questions)
    assert parts.count("test") == 36
    assert parts[::2] == parts[1::2]
    loose = divide(Partition(test=0.3, near_duplicates=None), questions)
    assert loose[::2] != loose[1::2]


def test_equal_questions_stay_on_one_side_whatever_the_setting() -> None:
    parts = divide(Partition(test=0.5, near_duplicates=None), [q for q in places(40) for _ in range(2)])
    assert parts[::2] == parts[1::2]
    assert parts.count("test") == 40


def test_a_group_larger_than_the_share_is_training_data() -> None:
    parts = divide(Partition(test=0.2), ["Where is it?"] * 30 + places(10))
    assert parts[:30] == ["train"] * 30
    assert parts[30:].count("test") == 8


def test_chosen_values_are_out_of_domain() -> None:
    domains: list[str | None] = [f"P{i % 4}" for i in range(40)]
    parts = divide(Partition(domain="relation", out=("P1", "P3"), test=0.5), places(40), domains=domains)
    assert [p == "test_ood" for p in parts] == [d in ("P1", "P3") for d in domains]
    assert parts.count("test") == 10


def test_values_drawn_by_seed_are_whole_and_as_many_as_the_share_says() -> None:
    domains: list[str | None] = [f"P{i % 10}" for i in range(100)]
    partition = Partition(domain="relation", out_share=0.3)
    found = []
    for seed in range(5):
        parts = divide(partition, places(100), domains=domains, seed=seed)
        out = {d for d, p in zip(domains, parts, strict=True) if p == "test_ood"}
        assert len(out) == 3
        assert parts.count("test_ood") == 30
        found.append(out)
    assert divide(partition, places(100), domains=domains) == divide(partition, places(100), domains=domains)
    assert len({tuple(sorted(map(str, out))) for out in found}) > 1
    two: list[str | None] = ["a", "b"]
    assert divide(Partition(domain="r", out_share=0.01), places(2), domains=two).count("test_ood") == 1
    assert divide(Partition(domain="r", out_share=0.99), places(2), domains=two).count("test_ood") == 1


def test_a_question_that_nearly_repeats_one_out_of_domain_is_not_trained_on() -> None:
    # "So" is frequent enough to weigh little beside a name.
    questions = [*places(40), *(f"So, where does {name} lie?" for name in (NAMES[0], *NAMES[50:70]))]
    domains: list[str | None] = ["out", *["in"] * 60]
    parts = divide(Partition(domain="r", out=("out",)), questions, domains=domains)
    assert parts[0] == "test_ood"
    assert parts[40] == "test"
    assert parts[1:40] + parts[41:] == ["train"] * 59


def test_what_cannot_be_divided_so_is_an_error() -> None:
    with pytest.raises(RecipeError, match="belong together"):
        Partition(domain="relation")
    with pytest.raises(RecipeError, match="belong together"):
        Partition(out=("P1",))
    with pytest.raises(RecipeError, match="both given"):
        Partition(domain="relation", out=("P1",), out_share=0.5)
    with pytest.raises(RecipeError, match="never has the value P9"):
        divide(Partition(domain="r", out=("P9",)), places(2), domains=["P1", "P2"])
    with pytest.raises(RecipeError, match="has 1 values"):
        divide(Partition(domain="r", out_share=0.5), places(2), domains=["P1", "P1"])
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"test": 1.0}, Partition)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES[:12]), st.sampled_from(["sure", "unsure"])), min_size=1, max_size=40
    ),
    st.integers(0, 99),
)
def test_no_question_is_on_both_sides(rows: list[tuple[str, str]], seed: int) -> None:
    questions = [f"Where does {name} lie?" for name, _ in rows]
    parts = divide(Partition(test=0.4), questions, [certain for _, certain in rows], seed=seed)
    sides: dict[str, set[str]] = defaultdict(set)
    for question, part in zip(questions, parts, strict=True):
        sides[question].add(part)
    assert all(len(found) == 1 for found in sides.values())
