"""Records and runs that pages of tests are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from written_runs import write_run

from gristmill.core.engine import Completion, Message
from gristmill.core.records import Judged, Pair, Sampled, Score, Trajectory, Turn
from gristmill.core.stages import Rejection
from gristmill.core.steps import ROOT, Node, Step, Tree, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.rundir.directory import SUMMARY
from gristmill.pipelines.rundir.summary import Spent, StageCounts, Summary

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
OPEN = Verdict(Outcome.UNPARSEABLE, rule="no answer")
HOSTILE = "</script><img src=x onerror=window.hurt=1><!-- & \N{RIGHT-TO-LEFT OVERRIDE} ]]>"
ASK = (Message("user", "What is 3 * 4 + 2?"),)


def rolls(right: int, wrong: int) -> tuple[Judged, ...]:
    return tuple(Judged(Completion(f"so {i}"), RIGHT if i < right else WRONG) for i in range(right + wrong))


def tree() -> Tree:
    nodes = (
        Node(0, ROOT, "", visits=9, value=0.5, rollouts=rolls(2, 2)),
        Node(1, 0, "3 * 4 = 12.\n", visits=6, value=0.8, prior=0.7),
        Node(2, 0, "3 * 4 = 7.\n", visits=3, value=0.1, rollouts=rolls(0, 4), note="first error"),
        Node(3, 1, "12 + 2 = 14.\n", visits=4, value=1.0, terminal=True, verdict=RIGHT),
        Node(4, 1, HOSTILE, visits=2, value=0.3, terminal=True, verdict=WRONG),
    )
    return Tree("p1", "What is 3 * 4 + 2?", "14", ASK, nodes, "puct", "budget", 9, 20, 200)


def solution() -> ValuedSolution:
    steps = (Step("3 * 4 = 12.\n", rolls(7, 1)), Step("12 + 2 = 15.\n", rolls(0, 8)), Step("It is 15."))
    return ValuedSolution(
        "p1/0", "p1", "What is 3 * 4 + 2?", "14", ASK, steps, WRONG, "fixed", "done", rolls(4, 4), (), 1
    )


def sampled(n: int, text: str, verdict: Verdict, **more: Any) -> Sampled:
    return Sampled(f"p{n}/0", f"p{n}", 0, "What is 2 + 3?", "5", ASK, text, "stop", 9, 4, verdict, **more)


def a_run(path: Path, texts: Sequence[str] = ("It is 5.", "It is 6.")) -> Path:
    """A run with a stage of each kind of row; ``texts`` are in all of its places."""
    good, bad = texts[0], texts[-1]
    samples = [
        sampled(n, text, (RIGHT, WRONG, OPEN)[n % 3], reasoning=text, scores=(Score(bad, 0.5 * n),))
        for n, text in enumerate(texts)
    ]
    turns = (Turn("user", bad, False), Turn("assistant", good, True, reasoning=bad))
    pair = Pair(
        "q", "q", bad, ASK, (Message("assistant", f"a {good} c"),), (Message("assistant", f"a {bad} c"),)
    )
    lost = [Rejection(f"p{n}/0", text, text) for n, text in enumerate(texts)]
    write_run(
        path,
        {
            "sample": (Sampled, samples, ()),
            "kept": (Sampled, samples[:1], lost[1:]),
            "steps": (ValuedSolution, [solution()], ()),
            "tree": (Tree, [tree()], ()),
            "turns": (Trajectory, [Trajectory("t", "p", bad, "5", "D1", "verify", turns)], ()),
            "pairs": (Pair, [pair], ()),
        },
    )
    stages = [
        StageCounts("sample", 2, len(texts), verdicts={"correct": 1, "unparseable": 1}, undecided={bad: 1}),
        StageCounts("kept", len(texts), 1, {one.reason: 1 for one in lost[1:]}, examples={bad: bad}),
        *(StageCounts(name, 1, 1) for name in ("steps", "tree", "turns", "pairs")),
    ]
    spent = Spent(3, 1, 2, 30, 12, 0.25)
    (path / SUMMARY).write_bytes(
        Summary(path.name, 0, bad, stages, {"x.jsonl": 1}, spent=spent, total=spent).encode()
    )
    return path
