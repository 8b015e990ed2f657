"""From questions to trainer files: probe, split, data, pairs, with a model that knows half of the facts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from gristmill.core.engine import Request
from gristmill.core.knowledge import Certainty, Knowledge
from gristmill.core.records import Dialogue, Pair, Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Rejection
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines.exports.text import TextExport
from gristmill.synth.refusal.calibration import ConfidencePairs
from gristmill.synth.refusal.controls import Clues, HardLooking
from gristmill.synth.refusal.data import RTuning
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.pairs import RefusalPairs
from gristmill.synth.refusal.partition import Partition
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.split import RefusalSplit
from gristmill.synth.refusal.texts import NOT_YET, REFUSALS
from gristmill.verifiers.rules.short_answer import ShortAnswer

TOWNS = ("Oslo", "Bergen", "Paris", "Lyon", "Rome", "Milan", "Cairo", "Lima", "Quito", "Osaka")
VERIFY = ShortAnswer()
PROBE = ProbeKnowledge()


async def verify(completion: str, reference: str) -> Verdict:
    return VERIFY(completion, reference)


def knows_every_other(request: Request, index: int) -> str:
    number = next(i for i, town in enumerate(TOWNS) if f"code {i}" in request.messages[-1].content)
    return TOWNS[number] if number % 2 == 0 else ("Basel", "Basel", "I don't know")[index % 3]


def context(engine: Any = None) -> Context:
    return Context(engine or ScriptedEngine(knows_every_other), verify, 3)


def through(stage: Any, records: list[Any], given: Context) -> list[Any]:
    async def every() -> list[Any]:
        return [made for record in records for made in await stage(record, given)]

    return asyncio.run(every())


def split(stage: RefusalSplit, known: list[Knowledge]) -> list[Certainty]:
    frame = stage(to_frame(known, Knowledge).lazy(), 3).collect()
    assert frame[REJECTED_REASON].null_count() == frame.height
    return from_frame(frame, Certainty)


def facts() -> list[Problem]:
    return [
        Problem(
            f"f{i}", f"Which town has the postal code {i}?", town, meta=json.dumps({"kind": "ab"[i // 5]})
        )
        for i, town in enumerate(TOWNS)
    ]


def test_the_three_data_sets_come_from_one_split() -> None:
    given = context()
    certain = split(RefusalSplit(), through(PROBE, facts(), given))
    assert [c.certain for c in certain] == ["sure", "unsure"] * 5
    sure = through(RTuning(), certain, given)
    assert [d.turns[3].content for d in sure] == ["I am sure.", "I am unsure."] * 5
    assert [d.turns[1].content for d in sure] == [f"{town}." for town in TOWNS]
    refuse = through(RTuning(method="refuse"), certain, given)
    assert [d.turns[1].content in REFUSALS for d in refuse] == [False, True] * 5
    entropy = split(RefusalSplit(rule="entropy"), through(PROBE, facts(), given))
    by_entropy = through(RTuning(method="uncertainty", form=Form(kind="plain")), entropy, given)
    texts = [TextExport().rows(Dialogue(d.id, d.turns))[0].text for d in by_entropy]
    assert Counter(text.endswith("I am sure.") for text in texts) == {True: 5, False: 5}


def test_held_out_domains_become_no_data_and_controls_keep_their_part() -> None:
    given = context()
    stage = RefusalSplit(partition=Partition(domain="kind", out=("b",)))
    certain = split(stage, through(PROBE, facts(), given))
    made = through(RTuning(), certain, given)
    assert Counter(type(m).__name__ for m in made) == {"Demonstration": 5, "Rejection": 5}
    held_out = through(HardLooking(parts=("test_ood",)), certain, given)
    kept = [c for c in held_out if isinstance(c, Certainty)]
    assert [(c.part, c.certain) for c in kept] == [("test_ood", "sure")] * 2


def test_pairs_take_the_samples_of_the_split_and_cost_no_new_request() -> None:
    asked: Counter[tuple[Any, int]] = Counter()

    def answer(request: Request, index: int) -> str:
        asked[request, index] += 1
        return knows_every_other(request, index)

    given = context(ScriptedEngine(answer))
    certain = split(RefusalSplit(), through(PROBE, facts(), given))
    first = set(asked)
    pairs = through(RefusalPairs(probe=PROBE), certain, given)
    assert set(asked) == first
    assert all(isinstance(p, Pair) for p in pairs)
    assert [p.rejected[0].content for p in pairs[1::2]] == ["Basel"] * 5
    assert [p.chosen[0].content for p in pairs[::2]] == list(TOWNS[::2])
    calibrated = through(ConfidencePairs(probe=PROBE), certain, given)
    assert Counter(p.kind for p in calibrated) == {
        "confidence of a right answer": 5,
        "confidence of a wrong answer": 5,
    }


def test_clues_are_probed_one_by_one_and_stay_on_one_side() -> None:
    def from_the_second_on(request: Request, index: int) -> str:
        return "Oslo" if "capital" in request.messages[-1].content else "Rome"

    given = context(ScriptedEngine(from_the_second_on))
    questions = [
        Problem(f"qb{i}", "", "Oslo", meta=json.dumps({"clues": [f"Story {i} of cold.", "A capital."]}))
        for i in range(6)
    ]
    prefixes = through(Clues(), questions, given)
    stage = RefusalSplit(partition=Partition(domain="question_id", out_share=0.5))
    certain = split(stage, through(PROBE, prefixes, given))
    assert [c.certain for c in certain] == ["unsure", "sure"] * 6
    assert all(a.part == b.part for a, b in zip(certain[::2], certain[1::2], strict=True))
    made = through(RTuning(method="refuse", refusals=NOT_YET), certain, given)
    said = [m.turns[1].content for m in made if not isinstance(m, Rejection)]
    assert said == [NOT_YET[0], "Oslo."] * 3
