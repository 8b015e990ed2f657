"""What holds of every stage's options: documented at the field, with bounds on the rows they give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from msgspec import Struct

import gristmill.synth
from gristmill.core.engine import Completion, Message
from gristmill.core.knowledge import Certainty, Knowledge
from gristmill.core.prompts import unknown_places
from gristmill.core.records import (
    Base,
    Conversation,
    Exploration,
    Judged,
    Pair,
    Passage,
    Problem,
    Sampled,
    ToolSample,
    Turn,
)
from gristmill.core.registry import find, names
from gristmill.core.stages import RowStage
from gristmill.core.steps import Step, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.tree_search.grow import Growing

FOLDER = Path(gristmill.synth.__file__).parent
DIALECT = re.compile(
    r"\[(?:OURS|MEM|ABS|CODE|2ND)\]|\bbut for\b|\bgone on with\b"
    r"|(?<!there )\b(?:is|are) no (?:verifier|option|label|list|number|answer|step|probabilit)"
)
"""Private marks, and turns of phrase that are not English."""
PROMPTS = {"prompt", "prompts", "system", "form", "templates", "sample", "ask"}
"""Options that are prompts or hold some."""

COLUMNS = {"long_context": ("context",)}
"""Columns without which a stage has nothing to do."""
MESSAGES = (Message("user", "2 + 2?"),)
TURNS = (Turn("user", "2 + 2?", False), Turn("assistant", "It is 4.", True))
RIGHT = Verdict(Outcome.CORRECT, 1.0)
BASE = Base(0, Judged(Completion("4"), RIGHT))
RECORDS: dict[type[Struct], Struct] = {
    type(record): record
    for record in (
        Passage("p", "Two and two are four."),
        Problem("p", "2 + 2?", "4", meta='{"clues": ["a", "b", "c"]}'),
        Sampled("p/0", "p", 0, "2 + 2?", "4", MESSAGES, "It is 4.", "stop", 5, 4, RIGHT),
        ToolSample("p/0", "p", 0, "2 + 2?", "4", MESSAGES, "It is 4.", "stop", 5, 4, RIGHT, turns=TURNS),
        Pair("p/0", "p", "test", MESSAGES, (Message("assistant", "4"),), (Message("assistant", "5"),)),
        Exploration("p", "2 + 2?", "4", "verify", (BASE,), "wanted"),
        Knowledge("p", "2 + 2?", "4", "{}", MESSAGES, None, (Judged(Completion("4"), RIGHT),)),
        Certainty("p", "2 + 2?", "4", "{}", None, None, "4", 1.0, (0,), 0.0, 1, 1, 0.2, 1.0, "sure", "train"),
        ValuedSolution("p/0", "p", "2 + 2?", "4", MESSAGES, (Step("It is 4."),), RIGHT, "fixed", "drawn"),
        Conversation("c", (Turn("user", "2 + 2?", False), Turn("assistant", "4", True))),
        Growing("p", "2 + 2?", "4", MESSAGES, "uct").freeze("iterations"),
    )
}
"""A record of every type that a stage reads."""
REQUIRED: dict[str, dict[str, object]] = {
    "implicit_rewards": {"reference": "other"},
    "measure": {"scores": {"n": "words"}},
}
REQUIRED["measure_pairs"] = REQUIRED["measure"]
REQUIRED["score"] = REQUIRED["score_pairs"] = {"scorer": "judge"}
REQUIRED["refine_judge_prompt"] = {"examples": str(Path(__file__).parent / "judged" / "known.jsonl")}
"""Options without a default."""


def options(module: ast.Module) -> list[tuple[ast.ClassDef, ast.AnnAssign, ast.stmt | None]]:
    """The fields of the classes that a recipe fills in, each with the statement after it."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and any(k.arg == "forbid_unknown_fields" for k in node.keywords):
            for field, then in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                    found.append((node, field, then))
    return found


def test_every_option_is_documented_at_its_field() -> None:
    bare, seen = [], 0
    for path in sorted(FOLDER.rglob("*.py")):
        for owner, field, then in options(ast.parse(path.read_text())):
            seen += 1
            told = isinstance(then, ast.Expr) and isinstance(then.value, ast.Constant)
            if not (told and isinstance(then.value.value, str)):  # type: ignore[union-attr]
                bare.append(f"{path.name}: {owner.name}.{ast.unparse(field.target)}")
    assert not bare and seen > 200


def test_texts_are_in_plain_english() -> None:
    found = []
    for path in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [f"{path.name}:{node.lineno}: {m[0]!r}" for m in DIALECT.finditer(node.value)]
    assert not found


def row_stages() -> dict[str, RowStage]:
    """The row stages of this package, with default options."""
    found = {name: find("stages", name) for name in names("stages")}
    ours = {n: s for n, s in found.items() if s.__module__.startswith("gristmill.synth")}
    return {n: s(**REQUIRED.get(n, {})) for n, s in ours.items() if issubclass(s, RowStage)}


def test_every_row_stage_bounds_what_it_makes_of_a_record() -> None:
    costs = {name: stage.estimate(RECORDS[stage.reads]) for name, stage in row_stages().items()}
    assert not [name for name, cost in costs.items() if cost is None or cost.rows_max is None]
    assert len(costs) > 30


def test_every_stage_with_prompts_says_what_they_want_of_a_row() -> None:
    stages = row_stages()
    asking = [name for name, stage in stages.items() if PROMPTS & set(stage.__struct_fields__)]
    assert not [name for name in asking if not hasattr(stages[name], "places")]
    # With their own prompts, all that they want is there.
    unknown = {name: [*unknown_places(stage, COLUMNS.get(name, ()))] for name, stage in stages.items()}
    assert not {name: found for name, found in unknown.items() if found}
    assert len(asking) > 12
