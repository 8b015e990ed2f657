"""Samples in which a model calls tools: what it is sent, what is kept, what carries loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, CalledFunction, Completion, Message, Request, Sampling, ToolCall
from gristmill.core.records import Problem, ToolSample
from gristmill.core.stages import Context
from gristmill.core.steps import StepAction, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.labels import StepActions
from gristmill.synth.tool_use import ActionValues, UseTools
from gristmill.synth.tool_use.loop import UsingTools
from gristmill.synth.tool_use.protocols import Textual, in_words
from gristmill.verifiers.toolbox import Toolbox

PROBLEM = Problem("p", "What is 17 * 23?", "391", meta='{"near": ["The Ansel floods in May."]}')
Answers = Callable[[Request, int], Completion | str]


def called(*calls: tuple[str, str]) -> Completion:
    made = tuple(ToolCall(f"c{i}", CalledFunction(n, a)) for i, (n, a) in enumerate(calls))
    return Completion("", "tool_calls", tool_calls=made)


def context(answers: Answers, asked: list[Request]) -> Context:
    def answer(request: Request, index: int) -> Completion | str:
        asked.append(request)
        return answers(request, index)

    async def verify(completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.CORRECT if reference in completion else Outcome.INCORRECT)

    return Context(ScriptedEngine(answer), verify, 7)


def made(stage: UseTools, answers: Answers) -> tuple[list[ToolSample], list[Request]]:
    asked: list[Request] = []
    found = asyncio.run(stage(PROBLEM, context(answers, asked)))
    assert all(isinstance(f, ToolSample) for f in found)
    return list(found), asked  # type: ignore[arg-type]


def last(request: Request) -> Message:
    return request.messages[-1]


def multiply(request: Request, index: int) -> Completion | str:
    """A model that calculates, then answers with what it read."""
    if last(request).role == "tool":
        return f"It is {last(request).content}."
    return called(("calculator", '{"expression": "17 * 23"}'))


def test_a_call_is_made_and_its_result_read_and_only_the_model_s_words_carry_loss() -> None:
    [row], asked = made(UseTools(system="Be brief."), multiply)
    assert [(t.role, t.content, t.train) for t in row.turns] == [
        ("system", "Be brief.", False),
        ("user", "What is 17 * 23?", False),
        ("assistant", "", True),
        ("tool", "391", False),
        ("assistant", "It is 391.", True),
    ]
    [run] = row.calls
    assert (run.turn, run.tool, run.arguments) == (2, "calculator", '{"expression": "17 * 23"}')
    assert (run.result, run.failed, run.seconds) == ("391", False, 0)
    assert row.turns[2].tool_calls[0].id == row.turns[3].tool_call_id == "c0"
    assert row.verdict is not None and row.verdict.correct and row.finish_reason == "stop"
    assert row.messages == asked[1].messages and row.completion == "It is 391."
    [tool] = msgspec.json.decode(row.tools)
    assert asked[0].tools == row.tools and tool["function"]["parameters"]["required"] == ["expression"]


def test_several_calls_of_one_turn_have_a_result_each() -> None:
    def answers(request: Request, index: int) -> Completion | str:
        if last(request).role == "tool":
            return "Done."
        return called(("calculator", '{"expression": "1 + 1"}'), ("search", '{"query": "flood Ansel"}'))

    tools = Toolbox(names=("calculator", "search"), column="near")
    [row], asked = made(UseTools(tools=tools), answers)
    assert [(m.role, m.content, m.tool_call_id) for m in asked[1].messages[-2:]] == [
        ("tool", "2", "c0"),
        ("tool", "[1] The Ansel floods in May.", "c1"),
    ]
    assert [run.turn for run in row.calls] == [1, 1]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("calculator", "{"), "the arguments are not a JSON object"),
        (("calculator", '"1 + 1"'), "the arguments are not a JSON object"),
        (("calculator", '{"formula": "1"}'), "must have the text 'expression'; they have: formula"),
        (("calculator", '{"expression": 1}'), "must have the text 'expression'"),
        (("calculator", '{"expression": "__import__(1)"}'), "cannot be calculated"),
        (("browser", '{"url": "x"}'), "there is no tool 'browser'"),
    ],
)
def test_a_call_that_fails_is_shown_as_an_error_and_kept(call: tuple[str, str], told: str) -> None:
    [row], asked = made(UseTools(), lambda r, i: "I give up." if last(r).role == "tool" else called(call))
    assert last(asked[1]).content.startswith("Error: ") and told in last(asked[1]).content
    assert row.calls[0].failed and told in row.calls[0].result
    assert row.verdict is not None and row.verdict.outcome is Outcome.INCORRECT


def test_a_model_that_calls_without_end_has_no_answer() -> None:
    [row], asked = made(UseTools(calls=2), lambda r, i: called(("calculator", '{"expression": "1 + 1"}')))
    assert len(asked) == 3 and len(row.calls) == 2
    assert "You have no more calls." in last(asked[2]).content and row.calls[1].result == "2"
    assert row.finish_reason == "tool_calls"
    assert row.verdict is not None and row.verdict.outcome is Outcome.UNPARSEABLE


def test_calls_beyond_the_limit_are_not_made() -> None:
    def answers(request: Request, index: int) -> Completion | str:
        one = ("calculator", '{"expression": "2 + 2"}')
        return "4" if last(request).role == "tool" else called(one, one, one)

    [row], _ = made(UseTools(calls=2), answers)
    assert [run.failed for run in row.calls] == [False, False, True]
    assert row.calls[2].result == "no call is left"


def test_a_model_without_calls_of_its_own_writes_them_as_text() -> None:
    def answers(request: Request, index: int) -> str:
        if "<result>" in last(request).content:
            return "So it is \\boxed{391}."
        return 'I multiply.\n<tool>calculator {"expression": "17 * 23"}</tool>\n<result>\n5\n</result>'

    [row], asked = made(UseTools(protocol="text", system="Be brief."), answers)
    assert asked[0].tools == row.tools == "" and asked[0].sampling.stop == ("</tool>",)
    told = asked[0].messages[0].content
    assert told.startswith("Be brief.\n\nYou may use tools") and '<tool>calculator {"expression":' in told
    assert [(t.role, t.content, t.train) for t in row.turns[2:]] == [
        ("assistant", 'I multiply.\n<tool>calculator {"expression": "17 * 23"}</tool>', True),
        ("user", "<result>\n391\n</result>", False),
        ("assistant", "So it is \\boxed{391}.", True),
    ]
    assert not any(t.tool_calls for t in row.turns)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('<tool>code {"program": "print(1)"}', "code", '{"program": "print(1)"}'),
        ('x <tool> code\n{"program": "a{}b"} </tool>', "code", '{"program": "a{}b"}'),
        ("<tool>17 * 23</tool>", "", "17 * 23"),
    ],
)
def test_calls_in_text_are_read(text: str, name: str, arguments: str) -> None:
    answer = Completion(text)
    said = Textual().said(answer)
    assert said.content.endswith("</tool>")
    [call] = Textual().calls(said, answer)
    assert (call.function.name, call.function.arguments) == (name, arguments)
    cut = Completion(text, "length")
    assert Textual().calls(Textual().said(cut), cut) == ()


def test_an_engine_that_calls_no_tools_is_refused_with_native_alone() -> None:
    assert Ability.TOOLS in UseTools().needs and Ability.TOOLS not in UseTools(protocol="text").needs


def test_samples_differ_by_their_index_alone() -> None:
    first, asked = made(UseTools(samples=3), multiply)
    again, _ = made(UseTools(samples=3), multiply)
    assert first == again and [row.id for row in first] == ["p/0", "p/1", "p/2"]
    assert len({(r.seed, last(r).role) for r in asked}) == 2


def valued(answers: Answers, **options: Any) -> tuple[ValuedSolution, list[Request], Context]:
    asked: list[Request] = []
    whole = context(answers, asked)
    [row] = asyncio.run(UseTools(calls=3)(PROBLEM, whole))
    asked.clear()
    stage = ActionValues(using=UsingTools(calls=3), **options)
    [found] = asyncio.run(stage(row, whole))
    return found, asked, whole


def test_a_turn_is_valued_by_conversations_behind_its_results() -> None:
    found, asked, whole = valued(multiply, k=3, start=2)
    assert [step.text for step in found.steps] == [
        '<tool>calculator {"expression": "17 * 23"}</tool>',
        "It is 391.",
    ]
    assert [m.role for m in found.steps[0].acted] == ["assistant", "tool"]
    assert [r.verdict.correct for r in found.steps[0].rollouts] == [True] * 3
    assert [r.completion.text for r in found.start] == ["It is 391."] * 2
    behind = [r for r in asked if [m.role for m in r.messages] == ["user", "assistant", "tool"]]
    assert (
        len(behind) == 3 + 2
    )  # the rollouts behind the call, and the second turns of those from the question
    [first, second] = asyncio.run(StepActions()(found, whole))
    assert isinstance(first, StepAction) and isinstance(second, StepAction)
    assert (first.prompt, first.prefix) == (PROBLEM_ASKED, "")
    assert [m.role for m in second.prompt] == ["user", "assistant", "tool"] and second.action == "It is 391."


PROBLEM_ASKED = (Message("user", "What is 17 * 23?"),)


def test_rollouts_have_no_more_calls_than_are_left() -> None:
    def answers(request: Request, index: int) -> Completion | str:
        results = sum(m.role == "tool" for m in request.messages)
        return "It is 391." if results >= 2 else called(("calculator", '{"expression": "1 + 1"}'))

    asked: list[Request] = []
    whole = context(answers, asked)
    [row] = asyncio.run(UseTools(calls=2)(PROBLEM, whole))
    asked.clear()
    [found] = asyncio.run(ActionValues(using=UsingTools(calls=2), k=1)(row, whole))
    assert len(found.steps) == 3 and [len(s.rollouts) for s in found.steps] == [1, 1, 0]
    assert max(sum(m.role == "tool" for m in r.messages) for r in asked) == 2


def test_a_turn_in_words_holds_its_calls() -> None:
    turn = Message("assistant", "I look.", tool_calls=called(("code", "{}"), ("search", "{}")).tool_calls)
    assert in_words(turn) == "I look.\n<tool>code {}</tool>\n<tool>search {}</tool>"


def test_reasoning_before_a_call_is_kept_and_not_sent_back() -> None:
    def answers(request: Request, index: int) -> Completion | str:
        if last(request).role == "tool":
            return "It is 391."
        return msgspec.structs.replace(called(("calculator", '{"expression": "1"}')), reasoning="Let me see.")

    [row], asked = made(UseTools(sampling=Sampling(max_tokens=9)), answers)
    assert row.turns[1].reasoning == "Let me see." and not any(m.reasoning for m in asked[1].messages)
    [_], kept = made(UseTools(keep_reasoning=True), answers)
    assert kept[1].messages[1].reasoning == "Let me see."


def test_worked_examples_are_sent_and_carry_no_loss() -> None:
    shown = (
        Message("user", "2 * 3?"),
        Message("assistant", "", tool_calls=called(("calculator", '{"expression": "2 * 3"}')).tool_calls),
        Message("tool", "6", tool_call_id="c0"),
        Message("assistant", "6."),
    )
    [row], asked = made(UseTools(system="Be brief.", examples=shown), multiply)
    assert asked[0].messages[1:5] == shown
    assert [i for i, t in enumerate(row.turns) if t.train] == [6, 8] and row.calls[0].turn == 6
    found = asyncio.run(ActionValues(k=1)(row, context(multiply, [])))[0]
    assert len(found.steps) == 2 and found.messages == asked[0].messages
