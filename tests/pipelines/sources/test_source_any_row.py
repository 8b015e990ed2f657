"""Rows of any shape, in any layout: a record or a rejection comes out, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.core.errors import InputError
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.source import Source, read

VALUES = st.recursive(
    st.sampled_from(["Why?", "No.", "", " ", "user", "human", "\n\nHuman: a\n\nAssistant: b", "1"])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "response",
                    "overall_score",
                    "annotations",
                    "Rating",
                    "text",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
COLUMNS = [
    *(
        "messages",
        "conversations",
        "instruction",
        "input",
        "output",
        "history",
        "prompt",
        "completion",
        "system",
    ),
    *(
        "chosen",
        "rejected",
        "score_chosen",
        "score_rejected",
        "completions",
        "generations",
        "ratings",
        "response",
    ),
    *(
        "helpfulness",
        "response_1",
        "response_2",
        "preference_strength",
        "problem_id",
        "id",
        "meta",
        "question",
    ),
    *("answer", "index", "finish_reason", "model", "prompt_tokens", "text", "title", "turns", "scores"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(COLUMNS), VALUES, min_size=2, max_size=8), min_size=1, max_size=4
    ),
    layout=st.sampled_from(["auto", "messages", "alpaca", "preference", "ultrafeedback", "helpsteer"]),
    reads=st.sampled_from(["conversations", "pairs", "samples", "passages", "trajectories"]),
)
def test_no_row_brings_a_reader_down(
    rows: list[dict[str, Any]], layout: Any, reads: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(path=str(path), reads=reads, layout=layout)
    try:
        found = list(read(source))
    except InputError:
        return
    assert len(found) <= len(rows)
    assert {type(r) for r in found} <= {Rejection, source.record}
    kept = [r.id for r in found if not isinstance(r, Rejection)]
    assert len(kept) == len(set(kept)) and all(kept)
