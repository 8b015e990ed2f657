"""Verdict markers, prompt filling, and the loss marks of the three styles."""

import msgspec
import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill
from gristmill.core.records import Style, Turn
from gristmill.synth.self_correction import Explore, Trial
from gristmill.synth.self_correction.prompts import (
    LOSS,
    CorrectionDialogue,
    Marker,
    PromptOverrides,
    Said,
    TurnPrompt,
    assemble,
    dialogue_of,
    marker_of,
    prompts_of,
)
from gristmill.synth.self_correction.scheme import CheckHolds

VERIFY, YES_NO = marker_of("verify"), marker_of("yes_no")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 + 5 = 12. [VERIFY] correct.", (True, "7 + 5 = 12.\n[VERIFY] correct.")),
        ("7 + 5 = 12, not 13.\n[VERIFY] wrong.\n ", (False, "7 + 5 = 12, not 13.\n[VERIFY] wrong.")),
        ("[VERIFY] correct.", (True, "[VERIFY] correct.")),
        # Defect A.3.8: a bare marker passed the test but was not cut, and then stood there twice.
        ("So it fits. [VERIFY] wrong", (False, "So it fits.\n[VERIFY] wrong.")),
        ("[VERIFY] correct. But then 3 is left.", None),
        ("[VERIFY] wrong. No: [VERIFY] correct.", None),
        ("[VERIFY] unsure. [VERIFY] correct.", None),
        ("[VERIFY] correctly", None),
        ("[verify] correct.", None),
        ("It is correct.", None),
        ("", None),
    ],
)
def test_a_verdict_is_one_marker_at_the_very_end(text: str, expected: tuple[bool, str] | None) -> None:
    assert VERIFY.read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", (True, "Yes.")),
        ("3 + 4 is 7. No.", (False, "3 + 4 is 7.\nNo.")),
        ("No, wait. Yes.", None),
        ("Yes, because 3 + 4 = 7", None),
        ("There are Nora and Tom", None),
    ],
)
def test_yes_no_verdicts(text: str, expected: tuple[bool, str] | None) -> None:
    assert YES_NO.read(text) == expected


def test_markers_that_begin_alike_are_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be told apart"):
        Marker(correct="RIGHT", wrong="RIGHTLY NOT").read("RIGHT")


def test_filling_never_looks_into_the_data() -> None:
    filled = fill(
        "Q: {problem} A: {attempt} {OTHER}", problem="{attempt} {evaluation} {0}", attempt="{problem}"
    )
    assert filled == "Q: {attempt} {evaluation} {0} A: {problem} {OTHER}"


def test_a_recipe_replaces_only_the_turns_it_names() -> None:
    mine = TurnPrompt((Message("user", "Check {attempt}"),), prefix="Check: ")
    prompts = PromptOverrides(evaluation=mine).over(prompts_of("verify"))
    assert prompts.evaluation == mine
    assert prompts.attempt == prompts_of("verify").attempt
    request = prompts.evaluation.request(7, {"problem": "1+1?"}, attempt="2")
    assert (request.messages[0].content, request.prefix, request.seed) == ("Check 2", "Check: ", 7)


def test_no_turn_is_given_the_reference() -> None:
    early = TurnPrompt((Message("user", "{problem} Is it {answer}?"),))
    with pytest.raises(RecipeError, match=r"the attempt has the place \{answer\}, which is not there yet"):
        Explore(prompts=PromptOverrides(attempt=early))
    with pytest.raises(RecipeError, match=r"of the attempt"):
        Trial(prompts=PromptOverrides(attempt=early))
    late = PromptOverrides(evaluation=TurnPrompt((Message("user", "{hint} {problem} Is it {answer}?"),)))
    assert Explore(prompts=late).places["prompts.evaluation"] == {"hint", "problem"}


def test_words_around_the_turns_have_no_other_place_than_the_problem() -> None:
    with pytest.raises(RecipeError, match=r"'dialogue.problem' has the place \{answer\}"):
        CorrectionDialogue(problem="{problem} {answer}")
    with pytest.raises(RecipeError, match=r"Did you mean \{reference\}"):
        Explore(check_holds=CheckHolds(right="It is {referrence}."))


def parts(subset: str) -> list[tuple[Said, bool]]:
    texts = [Said("ATTEMPT"), Said("EVALUATION")] + ([] if subset == "D3" else [Said("CORRECTION")])
    return list(zip(texts, LOSS[subset], strict=False))  # type: ignore[index]


def trained(turns: tuple[Turn, ...]) -> list[str]:
    """The text that carries loss, as a trainer would see it."""
    found = []
    for turn in turns:
        if turn.train:
            found += [turn.content[s.start : s.end] for s in turn.spans] or [turn.content]
    return found


@pytest.mark.parametrize("style", ["verify", "yes_no", "merged"])
@pytest.mark.parametrize(
    ("subset", "in_loss", "not_in_loss"),
    [
        ("D1", ["EVALUATION", "CORRECTION"], ["ATTEMPT"]),
        ("D2", ["CORRECTION"], ["ATTEMPT", "EVALUATION"]),
        ("D3", ["ATTEMPT", "EVALUATION"], []),
    ],
)
def test_loss_marks_follow_the_table(
    style: Style, subset: str, in_loss: list[str], not_in_loss: list[str]
) -> None:
    turns = assemble(style, dialogue_of(style), "PROBLEM", parts(subset))
    text = "".join(trained(turns))
    assert all(p in text for p in in_loss)
    assert not any(p in text for p in not_in_loss)
    everything = "".join(t.content for t in turns if t.role == "assistant")
    assert all(everything.count(p) == 1 for p in in_loss + not_in_loss)
    assert not any(t.train for t in turns if t.role != "assistant")


@pytest.mark.parametrize(("style", "assistant_turns"), [("verify", 3), ("yes_no", 2), ("merged", 1)])
def test_styles_differ_in_how_many_turns_they_make(style: Style, assistant_turns: int) -> None:
    turns = assemble(style, dialogue_of(style), "PROBLEM", parts("D1"))
    roles = [t.role for t in turns]
    assert roles == ["system"] + ["user", "assistant"] * assistant_turns
    assert turns[1].content == "PROBLEM"


def test_the_whole_turn_needs_no_spans() -> None:
    turns = assemble("merged", dialogue_of("merged"), "P", parts("D3"))
    assert turns[-1].train
    assert turns[-1].spans == ()


def test_prompts_are_data() -> None:
    for style in ("verify", "yes_no", "merged"):
        prompts = prompts_of(style)  # type: ignore[arg-type]
        assert msgspec.yaml.decode(msgspec.yaml.encode(prompts), type=type(prompts)) == prompts
