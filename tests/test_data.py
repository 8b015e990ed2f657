from __future__ import annotations

import ast
import importlib.util
import json
import operator
import re
from collections import Counter
from typing import Any

from paths import ROOT

from gristmill.core.records import Problem
from gristmill.pipelines.recipe.recipe import load
from gristmill.pipelines.sources.source import Source, read
from gristmill.verifiers.rules.listed import read_options

DATA = ROOT / "data"
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (DATA / name).read_bytes().splitlines()]


def test_the_generator_writes_the_committed_bytes() -> None:
    spec = importlib.util.spec_from_file_location("make_problems", ROOT / "benchmarks" / "make_problems.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render() == (DATA / "arithmetic.jsonl").read_bytes()


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def value(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        return int(OPERATORS[type(node.op)](value(node.left), value(node.right)))
    assert isinstance(node, ast.Constant) and isinstance(node.value, int)
    return node.value


def steps(node: ast.expr) -> int:
    return sum(isinstance(n, ast.BinOp) for n in ast.walk(node))


# How each kind of story is worked out, written down apart from the generator: the numbers in their order.
STORIES = [
    (r"\w+ has (\d+) \w+ and gets (\d+) more\. How many \w+ does \w+ have\?", "{0} + {1}"),
    (r"\w+ has (\d+) \w+ and gives away (\d+)\. How many \w+ does \w+ have left\?", "{0} - {1}"),
    (r"\w+ buys (\d+) boxes with (\d+) \w+ each and uses (\d+) of .* left\?", "{0} * {1} - {2}"),
    (r"\w+ buys (\d+) boxes with (\d+) \w+ each and finds (\d+) more .* have\?", "{0} * {1} + {2}"),
    (
        r"\w+ reads (\d+) pages a day for (\d+) days\. "
        r"\w+ reads (\d+) pages a day for (\d+) days\. .* together\?",
        "{0} * {1} + {2} * {3}",
    ),
    (
        r"\w+ buys (\d+) tickets at (\d+) dollars each and (\d+) drinks at (\d+) dollars each\. "
        r"\w+ pays with (\d+) dollars\. How many dollars does \w+ get back\?",
        "{4} - ({0} * {1} + {2} * {3})",
    ),
]


def formula(problem: str) -> ast.expr:
    bare = re.fullmatch(r"What is ([\d+*() -]+)\?", problem)
    found = [(re.fullmatch(pattern, problem), text) for pattern, text in STORIES]
    texts = [bare[1]] if bare else [text.format(*match.groups()) for match, text in found if match]
    assert len(texts) == 1, problem
    return ast.parse(texts[0], mode="eval").body


def test_every_answer_and_level_is_right() -> None:
    wrong = []
    for row in rows("arithmetic.jsonl"):
        tree = formula(row["problem"])
        if value(tree) < 0 or (row["answer"], row["level"]) != (str(value(tree)), steps(tree)):
            wrong.append(row)
    assert wrong == []


def test_level_one_suits_a_small_model() -> None:
    easy = [r for r in rows("arithmetic.jsonl") if r["level"] == 1 and r["kind"] != "product"]
    assert len(easy) >= 80
    for row in easy:
        assert all(int(n) < 20 for n in (*re.findall(r"\d+", row["problem"]), row["answer"]))
        assert len(row["problem"]) < 90
    assert all(r["level"] == 1 for r in rows("arithmetic.jsonl")[:100]), "a small --limit takes easy ones"


def test_the_files_have_what_the_readme_says() -> None:
    arithmetic, facts = rows("arithmetic.jsonl"), rows("facts.jsonl")
    assert len(arithmetic) == 300 and len(facts) == 77
    assert set(Counter(r["level"] for r in arithmetic)) == {1, 2, 3, 4}
    for found in (arithmetic, facts):
        for key in ("id", "problem"):
            assert len({r[key].casefold() for r in found}) == len(found)
    assert all(r["answer"] == r["answer"].strip() != "" and r["problem"].endswith("?") for r in facts)
    assert all(set(r) == {"id", "problem", "answer", "topic"} for r in facts)
    assert max(Counter(r["topic"] for r in facts).values()) <= 12


def test_the_source_reads_every_row() -> None:
    for name in ("arithmetic.jsonl", "facts.jsonl"):
        found = list(read(Source(path=str(DATA / name))))
        assert len(found) == len(rows(name)) and all(isinstance(p, Problem) for p in found)


def test_no_worked_example_of_a_shipped_recipe_is_a_shipped_problem() -> None:
    """Else its answer would be copied out of the prompt."""
    problems = {row["problem"] for row in rows("arithmetic.jsonl")}
    recipes = sorted((DATA / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        text = path.read_text()
        assert not [p for p in problems if p in text], f"{path.name} gives away a problem"
        load(path)


def test_feedback_arguments_and_trajectories_have_what_their_methods_read() -> None:
    feedback, arguments = rows("feedback.jsonl"), rows("arguments.jsonl")
    assert [row["id"] for row in feedback] == [f"feedback-{i:02d}" for i in range(1, 11)]
    assert all(list(row) == ["id", "problem", "completion", "feedback"] for row in feedback)
    assert [row["id"] for row in arguments] == [f"argument-{i:02d}" for i in range(1, 9)]
    assert all(list(row) == ["id", "problem"] and row["problem"].count(".") >= 1 for row in arguments)
    for row in rows("trajectories.jsonl"):
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * 2


def test_preferences_are_yes_or_no_questions_with_a_right_and_a_wrong_side() -> None:
    pairs = rows("preferences.jsonl")
    assert [pair["id"] for pair in pairs] == [f"q{i:02d}" for i in range(1, 41)]
    assert len({pair["question"] for pair in pairs}) == 40
    for pair in pairs:
        wrong = {"yes": "no", "no": "yes"}[pair["answer"]]
        first = [re.findall(r"\w+", pair[side])[0].lower() for side in ("chosen", "rejected")]
        assert first == [pair["answer"], wrong]


def test_judged_answers_are_the_sides_of_preferences() -> None:
    sides = {
        (row["question"], row[side], side == "chosen")
        for row in rows("preferences.jsonl")
        for side in ("chosen", "rejected")
    }
    judged = rows("judged_answers.jsonl")
    assert {(r["problem"], r["response"], r["label"]) for r in judged} < sides
    assert len(judged) == 24 == 2 * sum(r["label"] for r in judged)


def test_no_question_in_two_languages_is_among_the_solved_examples() -> None:
    found = rows("two_languages.jsonl")
    assert Counter((r["lang"], r["use"]) for r in found) == {
        ("de", "example"): 7, ("de", "question"): 3, ("fr", "example"): 7, ("fr", "question"): 3,
    }  # fmt: skip
    assert len({r["problem"] for r in found}) == len(found) == 20


def test_a_question_over_two_passages_takes_both() -> None:
    texts = {row["id"]: row["text"] for row in rows("vellan_passages.jsonl")}
    hops = rows("vellan_multi_hop.jsonl")
    assert len(hops) == 12
    for row in hops:
        first, second = row["passages"]
        assert row["answer"] in texts[second] and row["answer"] not in texts[first], row["id"]
        assert row["kind"] == "multi_hop" and row["answers"] == [row["answer"]], row["id"]


def test_choices_list_four_different_options_and_name_one_of_them() -> None:
    given = rows("choices.jsonl")
    assert len({row["id"] for row in given}) == len({row["problem"] for row in given}) == len(given) == 16
    for row in given:
        options = read_options(row["problem"])
        assert len(set(options)) == 4 and row["answer"] in "ABCD"
    assert Counter(row["answer"] for row in given) == dict.fromkeys("ABCD", 4)


def test_clues_go_without_the_answer_and_reading_passages_hold_it() -> None:
    for row in rows("clues.jsonl"):
        assert len(row["clues"]) == 4 and row["answer"].lower() not in " ".join(row["clues"]).lower()
    texts = {row["text"] for row in rows("vellan_passages.jsonl")}
    for row in rows("vellan_reading.jsonl"):
        assert row["answer"] in row["passage"] and row["passage"] in texts


def test_requests_are_of_two_kinds_and_none_occurs_twice() -> None:
    given = rows("requests.jsonl")
    assert Counter(row["kind"] for row in given) == {"harmless": 8, "harmful": 6}
    assert len({row["problem"] for row in given}) == len(given)
