"""``decontaminate`` finds items of references in every way they are hidden, and says by what evidence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import called, out, rejected, sample, samples

from gristmill.core.contracts.tables import dry_run
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON
from gristmill.filters import Decontaminate
from gristmill.filters.contamination import ItemSearch, load, save_hashed
from gristmill.filters.contamination.candidates import windows
from gristmill.filters.contamination.matching import text_of, way
from gristmill.filters.contamination.reference import answer_hash
from gristmill.filters.contamination.tokens import pieces, plain, stem

BAKER = (
    "A baker fills 48 trays with rye rolls, sells 31 of them to the harbour canteen and drops 5 on the "
    "stairs. How many trays are left for the market?"
)
KITES = (
    "In a valley 120 kites are flown by 15 teams of equal size, and each team lends 3 kites to beginners. "
    "How many kites does a team fly itself?"
)
ITEMS = [
    (BAKER, "12"),
    (KITES, "5"),
    (r"If $\frac{7}{19} = \frac{x}{57}$, what is $x^2 + \sqrt{441}$?", "462"),
    ("Find the units digit of $18^6.$", "4"),
    ("Name the reef that the lighthouse keeper of Skarholm charted in winter.", None),
]
OTHERS = [
    "What is the sum of the first 100 positive integers?",
    "To be, or not to be, that is the question.",
    "How many positive integers are there that are divisors of both 24 and 36?",
    "A baker sells bread. How many loaves are left?",
    "Express your answer as a common fraction.",
    r"Show that $\sin^2 x + \cos^2 x = 1$.",
    "",
]
REWORDED = (
    "The harbour canteen buys 31 trays of rye rolls from a baker who filled 48. Another 5 trays end on the "
    "stairs. What number of trays can still go to the market?"
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("reference") / "bench.jsonl"
    rows = [{"question": text, "answer": answer, "id": f"q{i}"} for i, (text, answer) in enumerate(ITEMS)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def asked(*texts: str, answer: str | None = None) -> pl.LazyFrame:
    return to_frame([Problem(str(i), text, answer) for i, text in enumerate(texts)], Problem).lazy()


def ways(reference: str, *texts: str, answer: str | None = None) -> list[str | None]:
    found = rejected(Decontaminate(references=[reference]), asked(*texts, answer=answer))
    return [
        found[str(i)].removeprefix("decontaminate: ") if str(i) in found else None for i in range(len(texts))
    ]


def test_each_way_in_which_an_item_can_be_there(reference: str) -> None:
    filler = "This part of the page tells how to install the program and where to look for its settings. " * 3
    assert ways(
        reference,
        BAKER.upper(),
        f"{filler}\n\n{KITES}\n\n{filler}",
        "User: Find the units digit of 18^6.",
        BAKER.replace("48", "64").replace("31", "22").replace("5", "9"),
        REWORDED,
        "If 7/19 = x/57, what is x² + √441?",
    ) == ["verbatim", "embedded", "short", "renumbered", "reworded", "short"]


def test_what_only_sounds_alike_stays(reference: str) -> None:
    assert ways(reference, *OTHERS) == [None] * len(OTHERS)


def test_an_answer_tells_a_rewording_from_another_problem(reference: str) -> None:
    near = "48 trays of rolls: the canteen gets 31, and 5 fall. How many trays has the baker left?"
    assert ways(reference, near, answer="12") == ["reworded"]
    assert ways(reference, near, answer=r"\frac{24}{2}") == ["reworded"], "equal under the verifier"
    loose = "Of 48 trays a canteen takes 31, while 5 are lost on the stairs. What remains of the rolls?"
    assert ways(reference, loose, answer="12") == ["reworded"]
    assert ways(reference, loose, answer="17") == [None]


def test_the_detail_has_both_texts_side_by_side(reference: str) -> None:
    page = f"Some page says this. {BAKER} And then it says that."
    made = called(Decontaminate(references=[reference]), asked(page))
    detail = made[REJECTED_DETAIL][0]
    assert detail.startswith("bench/q0 (words 1.00, numbers 1.00, n-grams 1.00); here: ")
    assert detail.count("A baker fills 48 trays") == 2 and "Some page" not in detail


def test_ways_that_are_not_named_keep_their_rows(reference: str) -> None:
    rows = asked(BAKER, BAKER.replace("48", "64").replace("31", "22").replace("5", "9"))
    assert rejected(Decontaminate(references=[reference], ways=["verbatim"]), rows) == {
        "0": "decontaminate: verbatim"
    }


def test_samples_are_searched_with_all_that_is_said_in_them(reference: str) -> None:
    rows = samples(sample("a", completion=f"Here is one: {BAKER}"), sample("b"))
    assert set(rejected(Decontaminate(references=[reference]), rows)) == {"a/0"}
    assert rejected(Decontaminate(references=[reference], text="problem"), rows) == {}


def test_hashes_find_what_texts_find_and_hold_no_text(reference: str, tmp_path: Path) -> None:
    hashed = tmp_path / "hashed.parquet"
    save_hashed(load([reference]), hashed)
    texts = [BAKER, KITES.replace("120", "160"), REWORDED, *OTHERS]
    assert ways(str(hashed), *texts) == ways(reference, *texts)
    assert b"baker" not in hashed.read_bytes() and pl.read_parquet(hashed).schema["words"] == pl.List(
        pl.UInt32
    )
    detail = called(Decontaminate(references=[str(hashed)]), asked(BAKER))[REJECTED_DETAIL][0]
    assert "bench/q0" in detail and "there:" not in detail


def test_files_and_folders_of_every_kind_are_references(tmp_path: Path) -> None:
    rows = pl.DataFrame({"problem": [BAKER], "final_answer": [["12"]]})
    rows.write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"text": [BAKER]}).write_csv(tmp_path / "b.csv")
    pl.DataFrame({"question": [BAKER], "choices": [["ten", "twelve"]], "answer": [1]}).write_json(
        tmp_path / "c.json"
    )
    found = load([str(tmp_path)])
    assert [item.name for item in found] == ["a/1", "b/1", "c/1"]
    assert found[2].text.endswith("ten\ntwelve") and found[0].answer == answer_hash("#### 12")


def lines(path: Path, rows: list[object]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_rows_of_a_reference_need_not_be_alike(tmp_path: Path) -> None:
    # As in OlympiadBench: a column that is null for a hundred rows, then a number, then a list.
    rows: list[object] = [{"error": None, "problem": f"Problem {i}"} for i in range(150)]
    rows += [
        {"error": 0.1, "problem": BAKER, "answer": 12},
        {"error": ["x"], "problem": KITES, "answer": "5"},
    ]
    found = load([lines(tmp_path / "a.jsonl", rows)])
    assert [item.gold for item in found[-2:]] == ["12", "5"]
    with pytest.raises(RecipeError, match=r"row 2 is not an object"):
        load([lines(tmp_path / "b.jsonl", [{"problem": BAKER}, 3])])


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"problem": BAKER, "solution": "We get \\boxed{11}, then " + "so " * 60 + "\\boxed{12}."}, "12"),
        ({"problem": BAKER, "solution": "There are many trays, " * 20}, ""),
        ({"problem": BAKER, "expected_answer": "12", "generated_solution": "?"}, "12"),
        ({"question": BAKER, "choices": ["ten", "twelve"], "answer": 1}, "twelve"),
        ({"question": BAKER, "choices": ["ten", "twelve"], "answer": "B"}, "twelve"),
        ({"prompt": [{"role": "user", "content": BAKER}], "reward_model": {"ground_truth": "12"}}, "12"),
    ],
)
def test_answers_are_found_in_the_layouts_of_public_sets(row: object, gold: str, tmp_path: Path) -> None:
    [item] = load([lines(tmp_path / "a.jsonl", [row])])
    assert (item.gold, item.text.startswith(BAKER)) == (gold, True)


def test_what_a_trainer_asks_of_every_item_is_no_part_of_it(tmp_path: Path) -> None:
    asked = "Let us think step by step and output the final answer in a box."
    rows = [{"prompt": f"{text} {i}\n{asked}"} for i in range(5) for text in (BAKER, KITES)]
    assert not [i for i in load([lines(tmp_path / "a.jsonl", [*rows])]) if "step by step" in i.text]
    assert asked in load([lines(tmp_path / "b.jsonl", [*rows[:9]])])[0].text


def test_a_data_set_that_was_saved_is_a_reference(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"question": [BAKER]}).save_to_disk(str(tmp_path / "saved"))
    assert [item.name for item in load([str(tmp_path / "saved")])] == ["saved/1"]


def test_what_ships_is_read_by_its_name() -> None:
    assert [len(load([name])) for name in ("gsm8k", "math500")] == [1319, 500]


def test_a_reference_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'gsm8' is neither a file nor a shipped set") as caught:
        dry_run("clean", Decontaminate(references=["gsm8"]), Problem)
    assert "Did you mean 'gsm8k'?" in str(caught.value.remedy)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="'x' has no column of texts"):
        load([str(tmp_path / "x.csv")])
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"'x\.json' cannot be read"):
        load([str(tmp_path / "x.json")])
    with pytest.raises(RecipeError, match="of a kind that cannot be read"):
        load([str(Path(__file__))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="has no file to read"):
        load([str(tmp_path / "empty")])
    with pytest.raises(RecipeError, match="go together"):
        Decontaminate(references=["gsm8k"], semantic=0.8)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    stage = Decontaminate(references=[reference], semantic=0.8, model="somewhere")
    with pytest.raises(RecipeError, match="decontaminate: 'semantic' needs the package semhash"):
        called(stage, asked("a b"))


def test_meaning_finds_only_what_has_the_same_answer(monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    import numpy as np

    class Letters:
        def encode(self, texts: list[str]) -> object:
            return np.array(
                [[text.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float
            )

    monkeypatch.setattr("gristmill.filters.contamination.search.encoder", lambda model, where: Letters())
    search = ItemSearch(load([reference]))
    scrambled = [" ".join(reversed(BAKER.split()))] * 3
    found = search.by_meaning(scrambled, ["12", "13", None], 0.95, "m")
    assert [one and one.item.name for one in found] == ["bench/q0", None, None]
    assert search.by_meaning(scrambled, ["12"] * 3, 1.01, "m") == [None] * 3


@pytest.mark.parametrize(
    ("word", "is_now"),
    [
        ("\\frac", ("", False)),
        ("twelve", ("12", True)),
        ("1,250", ("1250", True)),
        ("3.50", ("3.5", True)),
        (".5", ("0.5", True)),
        ("007", ("7", True)),
        ("squared", ("2", True)),
        ("√", ("sqrt", False)),
        ("\\sqrt", ("sqrt", False)),
        ("\\pi", ("pi", False)),
        ("dollars", ("", False)),
        ("x", ("x", False)),
    ],
)
def test_one_notation(word: str, is_now: tuple[str, bool]) -> None:
    assert plain(word) == is_now


def test_endings_do_not_tell_words_apart() -> None:
    assert len({stem(w) for w in ("trade", "trades", "traded", "trading", "trader")}) == 1
    assert stem("class") == "class" and stem("berries") == stem("berry")


def test_every_word_is_in_a_window_with_those_around_it() -> None:
    import numpy as np

    cuts = np.array([3, 3, 8, 403])  # texts of 0, 5 and 395 words
    at, window, first = windows(cuts)
    assert first.tolist() == [0, 1, 2, 6]
    inside = [sorted((at[window == w] % 400).tolist()) for w in range(6)]
    assert inside[0] == [] and inside[1] == list(range(5))
    assert [(i[0] - 5, i[-1] - 5) for i in inside[2:]] == [(0, 159), (80, 239), (160, 319), (240, 394)]


def test_a_table_in_pieces_is_judged_as_the_whole_is(reference: str) -> None:
    texts = [BAKER, *OTHERS, REWORDED, KITES]
    stage, frame = Decontaminate(references=[reference]), asked(*texts)
    assert stage.row_by_row
    pieces = [stage(frame.slice(at, 3), 0).collect() for at in range(0, len(texts), 3)]
    assert pl.concat(pieces).equals(stage(frame, 0).collect())


@pytest.mark.parametrize("answered", [True, False])
def test_what_is_ruled_out_early_would_not_have_been_found(reference: str, answered: bool) -> None:
    search = ItemSearch(load([reference]))
    far = " and then nobody said a word about the lighthouse" * 40
    texts = [text + more for text in (BAKER, KITES, REWORDED, *OTHERS) for more in ("", far)]
    answers = ["12" if answered else None] * len(texts)
    found = search.find(pl.Series(texts), answers)
    (piece,) = pieces(pl.Series(texts))
    said = [text_of(piece, at, answers[at]) for at in range(len(texts))]
    compared = [
        any(way(search.index.evidence(text, item), item, text) for item in search.index.items)
        for text in said
    ]
    assert [one is not None for one in found] == compared
    assert 4 <= sum(compared) < len(texts)


TEXTS = st.lists(
    st.sampled_from([BAKER, KITES, REWORDED, *OTHERS])
    | st.lists(st.sampled_from(BAKER.split()), max_size=30).map(" ".join),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(texts=TEXTS, data=st.data())
def test_order_has_no_say_twice_is_once_and_nothing_is_lost(
    reference: str, texts: list[str], data: st.DataObject
) -> None:
    rows = [Problem(f"p{i}", text) for i, text in enumerate(texts)]
    moved = data.draw(st.permutations(rows))
    stage = Decontaminate(references=[reference])
    made, other = (stage(to_frame(r, Problem).lazy(), 0).collect() for r in (rows, moved))
    assert made.drop(REJECTED_REASON, REJECTED_DETAIL).equals(to_frame(rows, Problem))
    assert made.sort("id").equals(other.sort("id"))
    kept = out(stage, to_frame(rows, Problem).lazy())
    assert rejected(stage, kept.lazy()) == {}
