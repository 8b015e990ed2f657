from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Request
from gristmill.core.errors import MissingExtraError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.grounding.entailment import EntailmentReading
from gristmill.verifiers.grounding.support import GroundingPassage
from gristmill.verifiers.grounding.verifier import Grounding, GroundingReport, ground, judge_support

TOWER = (
    "The Eiffel Tower is a wrought-iron lattice tower in Paris, France. It was completed in 1889 and is 330 "
    "metres tall. It was designed by the company of Gustave Eiffel."
)
LOUVRE = (
    "The Louvre is the world's most-visited museum. It had 8.9 million visitors in 2023. The museum is not "
    "free for adults. The World Health Organization praised it."
)
PASSAGES = json.dumps([TOWER, {"id": "wiki", "title": "Louvre", "text": LOUVRE}])


def report(verdict: Verdict) -> GroundingReport:
    return msgspec.json.decode(verdict.detail, type=GroundingReport)


def statuses(answer: str, passages: str = PASSAGES, **options: Any) -> list[str]:
    return [f.status for f in report(Grounding(**options)(answer, passages)).sentences]


@pytest.mark.parametrize(
    "answer",
    [
        "It was completed in 1889 and is 330 metres tall.",
        "It was completed in 1889.",
        'The Louvre is "the world\'s most-visited museum".',
    ],
)
def test_what_a_passage_says_is_supported(answer: str) -> None:
    verdict = Grounding()(answer, PASSAGES)
    [found] = report(verdict).sentences
    assert (verdict.outcome, verdict.score, found.by) == (Outcome.CORRECT, 1.0, "quote")


@pytest.mark.parametrize(
    "answer",
    [
        "Completed in 1889, the Eiffel Tower is 330 metres tall.",
        "The tower was designed by Gustave Eiffel's company.",
        "In 2023 the Louvre had 8,900,000 visitors.",
        "The WHO praised the Louvre.",
        "The museum isn't free for adults.",
        "The World Health Organization designed it.",
    ],
)
def test_words_in_common_accept_nothing(answer: str) -> None:
    verdict = Grounding()(answer, PASSAGES)
    [found] = report(verdict).sentences
    assert (verdict.outcome, verdict.rule, verdict.score) == (Outcome.UNPARSEABLE, "undecided", None)
    assert (found.status, found.by, found.open) == ("undecided", "lexical", True)
    assert judged(answer, "[[supported]]")[0].outcome is Outcome.CORRECT
    assert judged(answer, "[[unsupported]]")[0].outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    "passage",
    [
        "It is not true that the bridge fell in 1940.",
        "If the wind had risen, the bridge fell in 1940.",
        "Some claim the bridge fell in 1940.",
        "It is a myth that the bridge fell in 1940.",
        "Perhaps the bridge fell in 1940.",
    ],
)
def test_a_repetition_of_what_a_passage_takes_back_is_not_supported(passage: str) -> None:
    assert "supported" not in statuses("The bridge fell in 1940.", json.dumps([passage]))
    assert statuses("The bridge fell in 1940.", json.dumps(["Then the bridge fell in 1940."])) == [
        "supported"
    ]


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("Completed in 1887, the Eiffel Tower is 330 metres tall.", ["1887"]),
        ("The Eiffel Tower, a wrought-iron lattice tower in London, is 330 metres tall.", ["London"]),
        ("The Eiffel Tower was designed by the company of Gustave Flaubert.", ["Flaubert"]),
        ("In 2023 the Louvre had nine million visitors.", ["9000000"]),
        ('The museum is called "the best museum of the world".', ["the best museum of the world"]),
        ("The French and the Austrian tower is in Paris.", ["Austrian"]),
    ],
)
def test_a_fact_of_no_passage_outweighs_any_overlap(answer: str, missing: list[str]) -> None:
    verdict = Grounding()(answer, PASSAGES)
    [found] = report(verdict).sentences
    assert (verdict.outcome, list(found.missing), found.by) == (Outcome.INCORRECT, missing, "facts")
    assert not found.open
    assert found.evidence, "the nearest place is shown"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("London has the Eiffel Tower, a wrought-iron lattice tower completed in 1889.", "'London'"),
        ("The museum sells very cheap ice cream.", "few of its words"),
        ("The Louvre was completed in 1889 and is 330 metres tall.", "another passage"),
        ("The tower is 340 metres tall.", "worked out"),
    ],
)
def test_what_the_cheap_levels_do_not_decide_is_undecided(answer: str, why: str) -> None:
    verdict = Grounding()(answer, PASSAGES.replace("tall.", "tall, 10 metres less than the mast."))
    [found] = report(verdict).sentences
    assert (verdict.outcome, verdict.rule) == (Outcome.UNPARSEABLE, "undecided")
    assert (found.status, found.open) == ("undecided", True)
    assert why in found.why


def test_too_few_words_reject_only_by_choice() -> None:
    answer = "The museum sells very cheap ice cream."
    assert statuses(answer) == ["undecided"]
    assert statuses(answer, lexical=0.5) == ["unsupported"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("The Louvre is old. It was completed in 1889.", "undecided"),
        ("The Eiffel Tower is old. It was completed in 1889.", "supported"),
        ("It was completed in 1889.", "supported"),
    ],
)
def test_a_quoted_pronoun_must_mean_what_the_passage_is_about(answer: str, found: str) -> None:
    assert statuses(answer)[-1] == found


def test_several_places_may_be_joined() -> None:
    answer = "The tower was completed in 1889 and the museum had 8.9 million visitors."
    assert [f.score < 0.7 for f in report(Grounding()(answer, PASSAGES)).sentences] == [True]
    assert [f.score > 0.9 for f in report(Grounding(places=2)(answer, PASSAGES)).sentences] == [True]
    assert statuses(answer + " [1][2]", places=2) == ["undecided"]
    [found] = report(Grounding(places=2)(answer[:-1] + " [1][2].", PASSAGES)).sentences
    assert [(c.mark, c.found) for c in found.citations] == [("1", "right"), ("2", "right")]


def test_the_score_is_the_share_and_unsupported_spans_are_offsets() -> None:
    answer = "It was completed in 1889. It is 331 metres tall. The museum is not free for adults."
    verdict = Grounding()(answer, PASSAGES)
    found = report(verdict)
    assert verdict.score == pytest.approx(2 / 3)
    assert verdict.rule == "2 of 3 claims supported"
    assert [answer[a:b] for a, b in found.unsupported] == ["It is 331 metres tall."]
    place = found.sentences[0].evidence[0]
    assert "completed in 1889" in TOWER[place.start : place.end]
    assert place.passage == 1
    assert Grounding(accept=0.66)(answer, PASSAGES).correct
    assert not Grounding(accept=0.67)(answer, PASSAGES).correct


@pytest.mark.parametrize(
    ("answer", "found", "status"),
    [
        ("The tower is 330 metres tall [1].", [("1", "right")], "undecided"),
        ("The tower is 330 metres tall.[1]", [("1", "right")], "undecided"),
        ("The tower is 330 metres tall [2].", [("2", "wrong")], "unsupported"),
        ("The tower is 330 metres tall [wiki].", [("wiki", "wrong")], "unsupported"),
        ("The tower is 330 metres tall [1, 2].", [("1", "right"), ("2", "wrong")], "unsupported"),
        ("The tower is 330 metres tall [1][9].", [("1", "right"), ("9", "out of range")], "unsupported"),
        ("The tower is 330 metres tall [0].", [("0", "out of range")], "unsupported"),
        ("The tower is 330 metres tall.", [("", "missing")], "undecided"),
        ("The Louvre had 8.9 million visitors in 2023 [wiki].", [("wiki", "right")], "undecided"),
        ("The tower is 331 metres tall [1].", [("1", "wrong")], "unsupported"),
        ("The tower is 331 metres tall.", [], "unsupported"),
    ],
)
def test_citations_right_wrong_missing_and_out_of_range(
    answer: str, found: list[tuple[str, str]], status: str
) -> None:
    [sentence] = report(Grounding()(answer, PASSAGES)).sentences
    assert [(c.mark, c.found) for c in sentence.citations] == found
    assert sentence.status == status


def test_citations_may_be_required_or_only_reported() -> None:
    assert statuses("The tower is 330 metres tall.", citations="require") == ["unsupported"]
    assert statuses("The tower is 330 metres tall [1].", citations="require") == ["undecided"]
    assert statuses("It was completed in 1889 [1].", citations="require") == ["supported"]
    assert statuses("The tower is 330 metres tall [2].", citations="report") == ["undecided"]
    verdict = Grounding(citations="report")("The tower is 330 metres tall [2][7].", PASSAGES)
    assert report(verdict).citations == {"wrong": 1, "out of range": 1}


@pytest.mark.parametrize(
    "answer",
    [
        "The passages do not say who won.",
        "The provided documents don't mention Napoleon or 1815.",
        "This is not mentioned in the given passages.",
        "There is not enough information to answer.",
        "It cannot be determined from the context.",
        "None of the information in the sources tells it, and no details are in the sources.",
        "I don't know.",
    ],
)
def test_an_abstention_is_its_own_outcome(answer: str) -> None:
    verdict = Grounding()(answer, PASSAGES)
    assert (verdict.outcome, verdict.rule, verdict.score) == (Outcome.UNPARSEABLE, "abstained", None)
    assert report(verdict).counts == {"abstained": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The passages do not say who won, but it was Rome in 1998.", ["abstained", "unsupported"]),
        ("Although the sources do not say it, the tower is in Rome.", ["abstained", "unsupported"]),
        ("The sources do not say; the tower is 330 metres tall.", ["abstained", "undecided"]),
        ("There is no evidence of life in the tower.", ["undecided"]),
        ("I don't know. It is 330 metres tall.", ["abstained", "undecided"]),
    ],
)
def test_an_abstention_hides_no_claim(answer: str, expected: list[str]) -> None:
    assert statuses(answer) == expected


def test_what_claims_nothing_is_not_counted_unless_it_has_facts() -> None:
    answer = "# The Facts\nThree facts follow:\nIs it so?\n\nIt is 330 metres tall."
    assert statuses(answer)[0] == "no claim"
    assert statuses("# The Facts\nIs it so?") == ["no claim", "no claim"]
    assert Grounding()("# The Facts", PASSAGES).rule == "no claim"
    assert statuses("# Built in 1789") == ["unsupported"]
    assert statuses("**A tower of Bismarck**") == ["unsupported"]
    assert statuses("Did Napoleon build it in 1889?") == ["unsupported"]
    assert statuses("**Adults love the museum.**") == ["undecided"]


@pytest.mark.parametrize(
    ("reference", "outcome"),
    [
        ("", Outcome.ERROR),
        ("{}", Outcome.ERROR),
        ('["a", 3]', Outcome.ERROR),
        ('[{"id": 1, "text": "a"}, {"id": "1", "text": "b"}]', Outcome.ERROR),
        ("[" * 100_000, Outcome.ERROR),
        ("[]", Outcome.INCORRECT),
        ('["", "  "]', Outcome.INCORRECT),
    ],
)
def test_references(reference: str, outcome: Outcome) -> None:
    assert Grounding()("The tower is tall.", reference).outcome is outcome


def test_an_empty_answer_and_one_too_long_are_unparseable() -> None:
    assert Grounding()("", PASSAGES).rule == "no answer"
    assert Grounding()("a. " * 100_000, PASSAGES).rule == "too long"


def test_an_encoder_that_is_not_installed_is_told() -> None:
    if find_spec("torch") and find_spec("transformers"):
        pytest.skip("torch and transformers are installed")
    with pytest.raises(MissingExtraError, match="pip install torch transformers"):
        Grounding(encoder="some-entailment-model")


def entails(premises: Sequence[str], claim: str) -> list[EntailmentReading]:
    """Reads "height" and "tall" as one word, and nothing else."""
    tall = ["tall" in premise and "height" in claim for premise in premises]
    return [EntailmentReading(0.95 * yes, 0.95 * ("tiny" in claim and yes)) for yes in tall]


def judged(answer: str, *says: str, passages: str = PASSAGES, **more: Any) -> tuple[Verdict, list[str]]:
    asked: list[str] = []

    def reply(request: Request, index: int) -> str:
        asked.append(request.messages[-1].content)
        return says[min(len(asked), len(says)) - 1]

    verdict = asyncio.run(ground(answer, passages, ScriptedEngine(reply), seed=1, **more))
    return verdict, asked


def test_the_encoder_decides_before_the_judge_and_after_the_facts() -> None:
    verdict, asked = judged("Its height is great.", "[[unsupported]]", entails=entails)
    [found] = report(verdict).sentences
    assert (verdict.outcome, asked, found.by) == (Outcome.CORRECT, [], "encoder")
    assert "330 metres tall" in TOWER[found.evidence[0].start : found.evidence[0].end]
    verdict, asked = judged("Its height is 400 feet.", "[[supported]]", entails=entails)
    assert (verdict.outcome, asked) == (Outcome.INCORRECT, [])


def test_what_the_encoder_is_not_sure_of_goes_to_the_judge() -> None:
    verdict, asked = judged("Its age is great.", "[[supported]]", entails=entails)
    assert (verdict.outcome, len(asked)) == (Outcome.CORRECT, 1)
    wary = Grounding(entailed=0.96)
    verdict, asked = judged("Its height is great.", "[[unsupported]]", entails=entails, options=wary)
    assert (verdict.outcome, len(asked)) == (Outcome.INCORRECT, 1)


def test_the_encoder_rejects_what_it_reads_as_contradicted() -> None:
    def against(premises: Sequence[str], claim: str) -> list[EntailmentReading]:
        return [EntailmentReading(0.02, 0.97) for _ in premises]

    verdict, asked = judged("Its height is tiny.", "[[supported]]", entails=against)
    [found] = report(verdict).sentences
    assert (verdict.outcome, asked, found.by) == (Outcome.INCORRECT, [], "encoder")


def test_a_clash_is_final_unless_the_judge_may_recheck_it() -> None:
    answer = "The museum is free for adults."
    verdict, asked = judged(answer, "[[supported]]")
    assert (verdict.outcome, asked, report(verdict).sentences[0].clash) == (Outcome.INCORRECT, [], "negation")
    verdict, asked = judged(answer, "[[supported]]", recheck=True)
    assert (verdict.outcome, len(asked), report(verdict).sentences[0].clash) == (Outcome.CORRECT, 1, "")


def test_the_judge_decides_what_is_open_and_only_that() -> None:
    answer = "It was completed in 1889. Adults must buy a ticket for the museum. It is 17 years old."
    verdict, asked = judged(answer, "It follows. [[supported]]")
    assert [f.status for f in report(verdict).sentences] == ["supported", "supported", "unsupported"]
    assert len(asked) == 1
    assert "Adults must buy a ticket" in asked[0]
    assert LOUVRE in asked[0] and TOWER in asked[0]
    verdict, _ = judged(answer, "No. [[unsupported]]")
    assert verdict.score == pytest.approx(1 / 3)


def test_a_cited_passage_is_judged_before_all() -> None:
    answer = "Adults must buy a ticket [1]."
    verdict, asked = judged(answer, "[[unsupported]]", "[[supported]]")
    assert len(asked) == 2
    assert LOUVRE not in asked[0] and LOUVRE in asked[1]
    [found] = report(verdict).sentences
    assert (found.status, found.citations[0].found) == ("unsupported", "wrong")
    verdict, asked = judged(answer.replace("1", "2"), "[[supported]]")
    assert (len(asked), verdict.outcome) == (1, Outcome.CORRECT)
    assert report(verdict).sentences[0].citations[0].found == "right"


def test_a_judge_that_cannot_be_read_decides_nothing() -> None:
    verdict, _ = judged("Adults must buy a ticket.", "Hm, supported or unsupported?")
    assert (verdict.outcome, verdict.rule) == (Outcome.UNPARSEABLE, "judge unread")
    verdict, _ = judged("Adults must buy a ticket. It is 17 years old.", "Hm.")
    assert verdict.outcome is Outcome.INCORRECT, "it is wrong whatever the judge had said"


def test_a_judge_tells_its_shares() -> None:
    engine = ScriptedEngine(lambda request, index: "[[supported]]")
    ballot = asyncio.run(judge_support("It is so.", [GroundingPassage("It is so.")], engine, 1))
    assert ballot.best == "supported"
