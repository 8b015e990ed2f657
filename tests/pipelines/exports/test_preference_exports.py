"""Exports of pairs and labelled rows: what is compared holds no user turn unless that is wanted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.records import Labelled, Pair
from gristmill.pipelines.exports import TrlDpo, TrlDpoWeighted, TrlKto
from gristmill.testing import check_export

ASKED = (Message("user", "2 + 2?"), Message("assistant", "5"), Message("user", "Check it."))
WRONG, RIGHT = Message("assistant", "It is wrong."), Message("assistant", "It is right.")
AGAIN, FOUR = Message("user", "Solve it again."), Message("assistant", "4")
M_D3 = Pair("m3", "p", "M-D3w", ASKED, (WRONG, AGAIN, FOUR), (RIGHT,))
LATE = Pair("late", "p", "made", ASKED, (WRONG, AGAIN, FOUR), (WRONG, AGAIN, WRONG))
KEPT = Labelled("k", "p", ASKED[:1], (FOUR,), True, 2.5)


def texts(messages: Any) -> list[str]:
    return [m.content for m in messages]


@pytest.mark.parametrize("export", [TrlDpo(), TrlDpoWeighted()])
def test_sides_end_before_a_user_turn(export: TrlDpo) -> None:
    [row] = export.rows(M_D3)
    assert texts(row.prompt) == texts(ASKED)
    assert (texts(row.chosen), texts(row.rejected)) == (["It is wrong."], ["It is right."])
    assert export.remarks(M_D3) == {"sides that end before a user turn": 1}


def test_a_pair_that_differs_only_behind_a_user_turn_is_dropped() -> None:
    with pytest.raises(RowRejected, match="has no difference before a user turn"):
        TrlDpo().rows(LATE)


def test_pairs_with_user_turns_are_dropped_or_kept_where_that_is_wanted() -> None:
    with pytest.raises(RowRejected, match="has a user turn inside what is compared"):
        TrlDpo(user_turns="drop").rows(M_D3)
    [row] = TrlDpo(user_turns="keep").rows(M_D3)
    assert texts(row.chosen) == texts(M_D3.chosen)
    assert TrlDpo(user_turns="keep").remarks(M_D3) == {"user turns inside what is compared": 1}


def test_kto_rows_have_a_label_and_the_weight_is_remarked() -> None:
    [row] = TrlKto().rows(KEPT)
    assert msgspec.json.decode(msgspec.json.encode(row)) == {
        "id": "k",
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "completion": [{"role": "assistant", "content": "4"}],
        "label": True,
    }
    assert TrlKto().remarks(KEPT)["rows for which the trainer needs desirable_weight=2.5"] == 1
    unwanted = msgspec.structs.replace(KEPT, label=False, weight=1.0)
    assert not any(TrlKto().remarks(unwanted).values())
    check_export(TrlKto(), [KEPT, msgspec.structs.replace(unwanted, id="u")])
