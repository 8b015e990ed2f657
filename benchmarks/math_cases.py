"""The mathematics verifier beside math-verify on pairs that people judged and on answers in sentences.

    python benchmarks/math_cases.py [--pairs FILE ...] [--forms FILE ...] [--golds 300] [--misses]

A file of pairs has one JSON object a line: ``gold``, ``response``, ``equal``. A file of forms is a JSON list
of sentences; they are filled from the first ``--golds`` problems of GSM8K: ``{a}`` is the answer, ``{e}`` the
last expression of the reference solution, ``{u}`` a unit, ``{b}`` another number. Every filled form is right:
forms with ``{e}`` are left out where the last expression is not the answer.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from math_judges import math_verify, ours_cold

from gristmill.verifiers.math import prepare_worker, verify

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
_CALCULATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_UNIT = re.compile(r"####|\d[\d,.]*\s+([a-z]{3,})")
Judge = Callable[[str, str], str]


def filled(forms: list[str], gsm8k: Path, count: int) -> Iterator[tuple[str, str, str]]:
    """Each form with each of the first ``count`` problems: (form, completion, gold)."""
    for line in gsm8k.read_text().splitlines()[:count]:
        solution = json.loads(line)["answer"]
        gold = solution.rpartition("####")[2].strip()
        calculations = _CALCULATION.findall(solution)
        sound = bool(calculations) and calculations[-1][1].strip() == gold.replace(",", "")
        units = [found for found in _UNIT.findall(solution) if found]
        for form in forms if sound else [f for f in forms if "{e}" not in f]:
            values = {
                "{a}": gold,
                "{e}": calculations[-1][0] if calculations else gold,
                "{u}": units[-1] if units else "apples",
                "{b}": str(len(solution) % 89 + 2),
            }
            completion = form
            for key, value in values.items():
                completion = completion.replace(key, value)
            yield form, completion, gold


def pairs_report(name: str, rows: list[dict[str, object]], judges: dict[str, Judge], *, misses: bool) -> None:
    """Right, false positives, certain false negatives and undecided ones, for each verifier."""
    for who, judge in judges.items():
        start = time.process_time()
        counts: Counter[str] = Counter()
        for row in rows:
            outcome = judge(str(row["response"]), str(row["gold"]))
            right = (outcome == "correct") == row["equal"]
            counts["as people"] += right
            counts["false positives"] += outcome == "correct" and not row["equal"]
            counts["certain false negatives"] += outcome == "incorrect" and bool(row["equal"])
            counts["undecided of equal"] += outcome not in ("correct", "incorrect") and bool(row["equal"])
            counts["undecided of unequal"] += outcome not in ("correct", "incorrect") and not row["equal"]
            if misses and not right and who == "ours":
                verdict = verify(str(row["response"]), str(row["gold"]))
                print(f"  {'=' if row['equal'] else '#'} {row['gold']!r} | {row['response']!r} | {outcome}"
                      f" | {verdict.extracted!r} | {verdict.rule}: {verdict.detail}")  # fmt: skip
        rate = len(rows) / (time.process_time() - start)
        print(
            f"| {name} | {who} | {len(rows)} | {', '.join(f'{k} {v}' for k, v in counts.items())}"
            f" | {rate:,.0f}/s |"
        )


def forms_report(
    name: str, cases: list[tuple[str, str, str]], judges: dict[str, Judge], *, misses: bool
) -> None:
    """The share of right sentences that each verifier finds right, and how many it calls wrong."""
    for who, judge in judges.items():
        start = time.process_time()
        counts: Counter[str] = Counter()
        shown: Counter[str] = Counter()
        for form, completion, gold in cases:
            outcome = judge(completion, gold)
            counts[outcome] += 1
            if misses and outcome != "correct" and who == "ours":
                shown[form] += 1
                if shown[form] <= 4 or outcome == "incorrect":
                    verdict = verify(completion, gold)
                    print(f"  {gold!r} | {completion!r} | {outcome} | {verdict.extracted!r} | {verdict.rule}")
        rate = len(cases) / (time.process_time() - start)
        share = counts["correct"] / len(cases)
        print(f"| {name} | {who} | {len(cases)} | {share:.2%} correct, {dict(counts)} | {rate:,.0f}/s |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--pairs", type=Path, nargs="*", default=[SHARED / "cases" / "math.jsonl"])
    arguments.add_argument("--forms", type=Path, nargs="*", default=[SHARED / "cases" / "sentences.json"])
    arguments.add_argument("--gsm8k", type=Path, default=SHARED / "data" / "math" / "gsm8k.jsonl")
    arguments.add_argument("--golds", type=int, default=300, help="problems that the forms are filled from")
    arguments.add_argument("--misses", action="store_true", help="print what ours judges otherwise")
    arguments.add_argument("--alone", action="store_true", help="without math-verify")
    options = arguments.parse_args()
    prepare_worker()
    judges: dict[str, Judge] = {"ours": ours_cold}
    if not options.alone:
        judges["math-verify"] = math_verify()
    for path in options.pairs:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        pairs_report(path.stem, rows, judges, misses=options.misses)
    for path in options.forms:
        cases = list(filled(json.loads(path.read_text()), options.gsm8k, options.golds))
        forms_report(path.stem, cases, judges, misses=options.misses)


if __name__ == "__main__":
    main()
