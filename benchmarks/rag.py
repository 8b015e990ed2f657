"""Are the chosen answers of ``judge_metrics`` grounded more often than the rejected ones?

    python benchmarks/rag.py runs/rag/05-compared [FOLDER ...]

Reads the rows of a stage ``rag_pairs`` of each run, has the pairs turned by rules that know one kind of
evidence, and counts by another kind that had no part in the choice:

- chosen by the reference answers and by who abstains where, counted by ``grounding``;
- chosen by ``grounding`` alone, counted by the reference answers: an answer is right that has one, or that
  abstains where the passages hold none.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import polars as pl

from gristmill.core.prompts import fields
from gristmill.core.records import Pair
from gristmill.core.schema import from_frame
from gristmill.core.shares import wilson
from gristmill.core.stages import Context
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.rag import JudgeMetrics
from gristmill.synth.rag.metrics import answerable, read_answer, references_of
from gristmill.synth.scoring import said
from gristmill.verifiers.grounding import Grounding

NAMES = ("answers", "answer")
WAYS = {
    "references, abstention": JudgeMetrics(
        judged=(), weights={"hallucination": 0, "attribution": 0, "verbosity": 0}
    ),
    "grounding": JudgeMetrics(
        judged=(), weights={"comprehensiveness": 0, "verbosity": 0}, abstention=False, references=()
    ),
    "all rules": JudgeMetrics(judged=()),
}


async def unused(completion: str, reference: str) -> Verdict:
    raise AssertionError("no verifier of a recipe is called")


def turned(stage: JudgeMetrics, pairs: list[Pair]) -> list[Pair]:
    context = Context(ScriptedEngine(lambda request, index: ""), unused, 0)
    found = [asyncio.run(stage(pair, context)) for pair in pairs]
    return [made for rows in found for made in rows if isinstance(made, Pair)]


def grounded(pair: Pair, side: str) -> bool | None:
    """Whether all claims of a side are supported; ``None`` where that is not decided."""
    verdict = next(score.verdict for score in pair.scores if score.name == f"{side}_grounding")
    return verdict.correct if verdict is not None and verdict.decided else None


def clean(pair: Pair, side: str) -> bool:
    """Whether no claim of a side is unsupported."""
    return grounded(pair, side) is not False


def right(pair: Pair, side: str) -> bool | None:
    """Whether a side has a reference answer, or abstains where the passages hold none."""
    meta: dict[str, Any] = fields(pair.meta)
    text = said(getattr(pair, side))
    wanted = references_of(meta, NAMES)
    known = answerable(meta, wanted, "answerable")
    score = next(s for s in pair.scores if s.name == f"{side}_grounding")
    assert score.verdict is not None
    answer = read_answer(text, score.verdict, wanted)
    if known is None:
        return None
    return answer.abstains if not known else bool(answer.covered)


def shown(values: list[bool | None]) -> str:
    decided = [value for value in values if value is not None]
    hits = sum(decided)
    if not decided:
        return "none decided"
    low, high = wilson(hits, len(decided))
    return f"{hits} of {len(decided)} ({low:.2f} to {high:.2f})"


def main() -> None:
    files = [file for folder in sys.argv[1:] for file in sorted(Path(folder).glob("part-*.parquet"))]
    pairs = [pair for file in files for pair in from_frame(pl.read_parquet(file), Pair)]
    print(f"{len(pairs)} pairs of answers, grounding with the options {Grounding(citations='report')}")
    for name, stage in WAYS.items():
        made = turned(stage, pairs)
        print(f"\nchosen by {name}: {len(made)} pairs")
        for measure, count in (("grounded", grounded), ("no unsupported claim", clean), ("right", right)):
            sides = [shown([count(pair, side) for pair in made]) for side in ("chosen", "rejected")]
            print(f"  {measure}: chosen {sides[0]}, rejected {sides[1]}")


if __name__ == "__main__":
    main()
