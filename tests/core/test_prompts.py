"""Prompt templates."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import (
    RowValues,
    fill,
    fill_messages,
    places,
    require,
    row_places,
    unknown_places,
    within,
)
from gristmill.core.records import Problem
from gristmill.core.steps import ValuedSolution

MARK = "{# jinja #}\n"


def test_places_are_filled_in_one_pass_and_other_braces_stay() -> None:
    assert fill("{a} {b} {{a}} {A} {} { a }", a="{b}", b="2") == "{b} 2 {{b}} {A} {} { a }"
    assert fill_messages([Message("user", "{a}")], a="1") == (Message("user", "1"),)
    assert fill('{"answer": "{a1}", "n": {"x": 1}}', a1="7") == '{"answer": "7", "n": {"x": 1}}'


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (r"Put it in \boxed{answer}.", []),
        (r"\boxed{{answer}}", ["answer"]),
        (r"\frac{a}{b} of {problem}", ["problem"]),
        (r"\sum_{i}^{n} x_{i} e^{x} {problem}", ["problem"]),
        (r"\begin{align}{problem}\end{align}", []),
        (r"\sqrt[n]{x} \operatorname*{argmax} {x_1}", ["x_1"]),
        ("{first}_{last}", ["first", "last"]),
        ("{problem}{answer}", ["problem", "answer"]),
        ("{Problem} {a-b} {1} {}", []),
    ],
)
def test_what_latex_writes_in_braces_is_text(template: str, named: list[str]) -> None:
    assert places(template) == named
    assert fill(template, dict.fromkeys(named, "")).count("\\") == template.count("\\")


def test_values_as_text() -> None:
    row = RowValues(
        Problem("p", "2+2?", "4", level=3, meta='{"context": ["a", {"b": 1}], "n": 0.5, "ok": true}')
    )
    assert fill("{problem}|{level}|{context}|{n}|{ok}", row) == '2+2?|3|a\n{"b":1}|0.5|true'
    assert list(row) == ["id", "problem", "answer", "level", "context", "n", "ok"] and len(row) == 7
    assert fill("{answer}", row, answer="mine") == "mine"


@pytest.mark.parametrize("template", ["{hint} {problem}", MARK + "{{ hint }} {{ problem }}"])
@pytest.mark.parametrize("meta", ["{}", '{"hint": null}'])
def test_a_place_without_a_value_rejects_the_row_by_its_name(template: str, meta: str) -> None:
    with pytest.raises(RowRejected) as rejected:
        fill(template, RowValues(Problem("p", "2+2?", meta=meta)))
    assert rejected.value.reason == "has no 'hint'"


def test_meta_that_is_not_an_object_rejects_the_row_only_where_it_is_needed() -> None:
    row = RowValues(Problem("p", "2+2?", meta="[1]"))
    assert fill("{problem}", row) == "2+2?"
    with pytest.raises(RowRejected, match="Expected `object`"):
        fill("{hint}", row)


def test_a_missing_or_unknown_place_is_named() -> None:
    messages = (Message("system", "{fence}"), Message("user", "{response}"))
    require("ask", messages, "fence", "response")
    with pytest.raises(RecipeError, match=r"'ask' has no place \{problem\}"):
        require("ask", messages, "response", "problem")
    with pytest.raises(
        RecipeError, match=r"the place \{fence\}, which nothing fills. Did you mean \{fences\}"
    ):
        require("ask", messages, "response", known=("fences",))


class Asks(Struct):
    """A stage with a prompt, as far as its places go."""

    reads: ClassVar[type[Struct]] = Problem
    prompt: str

    @property
    def places(self) -> dict[str, frozenset[str]]:
        return row_places(("attempt",), prompt=self.prompt)


class AsksSolutions(Asks):
    reads: ClassVar[type[Struct]] = ValuedSolution


def test_places_that_no_row_fills_are_found_when_the_columns_are_known() -> None:
    stage = Asks("{attempt} {problem} {contxt}")
    assert list(unknown_places(stage)) == []
    [found] = unknown_places(stage, ["context", "topic"])
    assert found[:3] == ("prompt", "contxt", "context")
    assert "Did you mean {context}?" in str(found.error())
    # A record without meta has its fields and nothing else.
    [found] = unknown_places(AsksSolutions("{problem} {context}"))
    assert found.place == "context"
    assert within("sample", stage.places) == {"sample.prompt": {"problem", "contxt"}}


def test_jinja_loops_and_keeps_plain_braces() -> None:
    template = (
        MARK + "{% for c in context %}\n{{ loop.index }}. {{ c }}\n{% endfor %}\n\\boxed{answer} {{ x }}"
    )
    assert fill(template, context=["a", "{{ b }}"], x=[1, {"y": 2}]) == (
        '1. a\n2. {{ b }}\n\\boxed{answer} 1\n{"y":2}'
    )
    assert places(template) == ["context", "x"]


def test_jinja_wants_of_a_row_only_what_has_no_default() -> None:
    template = (
        MARK + "{{ hint | default('none') }}{% if more is defined %} {{ more }}{% endif %} {{ problem }}"
    )
    assert places(template) == ["problem"]
    assert fill(template, RowValues(Problem("p", "2+2?", meta='{"hint": null}'))) == "none 2+2?"
    assert fill(template, RowValues(Problem("p", "2+2?", meta='{"more": "m"}'))) == "none m 2+2?"


def test_a_jinja_template_that_cannot_be_read_is_an_error_with_its_line() -> None:
    with pytest.raises(RecipeError, match="line 3 of the Jinja prompt"):
        places(MARK + "{{ problem }}\n{% for x in %}")
    with pytest.raises(RecipeError, match=r"line 2 .*No filter named 'shout'"):
        places(MARK + "{{ problem | shout }}")


@pytest.mark.parametrize(
    "expression",
    [
        "{{ problem.__class__.__mro__ }}",
        "{{ items.append(1) }}",
        "{{ range(1000000000) | list }}",
        "{{ items[0] / 0 }}",
        "{{ items | map(attribute='x') | list }}{{ none }}",
    ],
)
def test_jinja_runs_in_its_sandbox_and_its_failures_cost_the_row(expression: str) -> None:
    values: dict[str, Any] = {"problem": "2+2?", "items": [1]}
    with pytest.raises(RowRejected):
        fill(MARK + expression, values)


@pytest.mark.parametrize("template", ["{problem}", MARK + "{{ problem }}"])
@pytest.mark.parametrize("data", ["{# jinja #}{{ 1 + 1 }}", "{{ 7 * 7 }}", "{answer}", "{% for"])
def test_data_are_never_read_as_a_template(template: str, data: str) -> None:
    assert fill(template, problem=data, answer="secret") == data
