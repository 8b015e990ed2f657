"""The mathematics verifier beside math-verify: accuracy on right and wrong pairs, and pairs a second.

    python benchmarks/verifiers.py [--data ../shared/data/math] [--wrong 1000] [--every]
                                   [--json FILE] [--disagreements FILE]

Right pairs: each reference against itself in five restylings. Wrong pairs: a reference against the answer
of another problem, drawn with a fixed seed; ``--every`` also puts all pairs of references of one set before
our verifier and lists what it finds equal. Both verifiers judge the same pairs, first in one process, one
after the other, without deadlines; then in two processes each, ours through its ``Pool`` with its deadline.
A first pass empties our memo before each pair, in the workers too, so that no pair helps another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from math_judges import math_verify, ours, ours_cold

from gristmill.core.verdicts import Verdict
from gristmill.verifiers.math import forget, group, last_box, prepare_worker, verify
from gristmill.verifiers.pool.pool import Pool

SETS = ("math500", "gsm8k", "amc23", "aime24", "minerva_math", "olympiadbench")
Pairs = dict[tuple[str, str], list[tuple[str, str]]]
"""(completion, reference) by data set and restyling."""

WORKERS = 2
_SIGNS = re.compile(r"(?<=[\w)}\]])([+=])(?=[\w\\(])")


def golds(folder: Path, name: str) -> Iterator[str]:
    """The reference answers of a data set; problems without one are left out."""
    for line in (folder / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        if name == "gsm8k":
            found = row["answer"].rpartition("####")[2].strip()
        elif name == "minerva_math":
            found = last_box(row["solution"]) or ""
        elif name == "olympiadbench":
            found = row["final_answer"][0].strip()
        else:
            found = str(row["answer"])
        if found:
            yield found


def undollared(gold: str) -> str:
    """``$1$,$2$`` as one formula."""
    marker = "\0"
    return gold.replace(r"\$", marker).replace("$", "").replace(marker, r"\$")


def restylings(gold: str) -> dict[str, str]:
    """Completions that give ``gold`` as their answer."""
    plain = undollared(gold)
    spaced = _SIGNS.sub(r" \1 ", plain)
    styles = {
        "boxed": rf"So we are done, and the answer is \boxed{{{gold}}}.",
        "dollar": f"Adding up, the final answer is ${plain}$.",
        "prose": f"We add both. The answer is {gold}",
        "spaced": rf"Therefore \boxed{{ {spaced} }}",
    }
    if re.fullmatch(r"-?\d+(\.\d+)?|\\frac\{\d+\}\{\d+\}", plain):
        styles["units"] = rf"It takes \boxed{{{plain} \text{{ hours}}}}."
    else:
        styles["units"] = rf"It is \boxed{{{plain}\,}} in total."
    return styles


def right_pairs(folder: Path) -> Pairs:
    """Every reference in its five restylings."""
    pairs: Pairs = {}
    for name in SETS:
        for gold in golds(folder, name):
            for style, completion in restylings(gold).items():
                pairs.setdefault((name, style), []).append((completion, gold))
    return pairs


def boxed(answer: str) -> str:
    """A completion that gives ``answer``, the reference of some other problem."""
    return rf"The answer is \boxed{{{answer}}}."


def unlike(a: str, b: str) -> bool:
    """Whether two references are written otherwise, spaces and dollar signs aside."""
    return undollared(a).replace(" ", "") != undollared(b).replace(" ", "")


def wrong_pairs(folder: Path, count: int) -> Pairs:
    """A boxed answer of one problem against the reference of another that is written otherwise."""
    draw = random.Random(7)
    pairs: Pairs = {}
    for name in SETS:
        known = list(golds(folder, name))
        some = pairs.setdefault((name, "another's"), [])
        for _ in itertools.repeat(None, 50 * count):
            a, b = draw.choice(known), draw.choice(known)
            if unlike(a, b):
                some.append((boxed(a), b))
            if len(some) == count // len(SETS):
                break
    return pairs


def every_pair(folder: Path) -> Pairs:
    """All ordered pairs of a set's references that are written otherwise."""
    pairs: Pairs = {}
    for name in SETS:
        known = sorted({undollared(g).replace(" ", ""): g for g in golds(folder, name)}.values())
        pairs[name, "every"] = [(boxed(a), b) for a in known for b in known if a != b]
    return pairs


def cold(completion: str, reference: str) -> Verdict:
    """What the workers of a first pass run."""
    forget()
    return verify(completion, reference)


def timed(judge: Callable[[str, str], str], pairs: list[tuple[str, str]]) -> tuple[list[str], float]:
    """The outcomes, and pairs a second of this process's time, whatever else the machine does."""
    start = time.process_time()
    outcomes = [judge(*pair) for pair in pairs]
    return outcomes, len(pairs) / (time.process_time() - start)


def pooled(pool: Pool, pairs: list[tuple[str, str]]) -> tuple[list[str], float]:
    """As ``timed``, all pairs handed to the pool at once."""
    start = time.perf_counter()
    outcomes = [verdict.outcome.value for verdict in pool.verdicts(pairs)]
    return outcomes, len(pairs) / (time.perf_counter() - start)


def their_outcome(pair: tuple[str, str]) -> str:
    """math-verify's verdict, in a process of its own."""
    return math_verify()(*pair)


def on_two_workers(kinds: dict[str, list[tuple[str, str]]]) -> dict[str, float]:
    """Pairs a second on two processes: ours for the first time and again, and math-verify."""
    report: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    for kind, pairs in kinds.items():
        with Pool("verifiers:cold", workers=WORKERS, memo=0) as pool:
            pooled(pool, pairs)  # until both workers are there; what they learn they forget
            _, first = pooled(pool, pairs)
        with Pool("math", workers=WORKERS) as pool:
            pooled(pool, pairs)
            _, memoised = pooled(pool, pairs)
        with context.Pool(WORKERS) as theirs:
            theirs.map(their_outcome, [(r"\boxed{x+1}", "1+x")] * 200, chunksize=1)
            start = time.perf_counter()
            theirs.map(their_outcome, pairs, chunksize=32)
            base = len(pairs) / (time.perf_counter() - start)
        report |= rates(f"{kind}, {WORKERS} workers", len(pairs), first, memoised, base)
    return report


def rates(kind: str, pairs: int, first: float, memoised: float, base: float) -> dict[str, float]:
    """Print and return one comparison."""
    print(
        f"{kind}: {pairs:,} pairs; ours {first:,.0f}/s, memoised {memoised:,.0f}/s, math-verify "
        f"{base:,.0f}/s; ratios {first / base:.1f} and {memoised / base:.0f}",
        flush=True,
    )
    return {f"{kind}: ours": first, f"{kind}: memoised": memoised, f"{kind}: math-verify": base}


def disagreements(kind: str, by_style: Pairs, mine: list[str], theirs: list[str]) -> Iterator[dict[str, str]]:
    """The pairs on which the two differ or ours is wrong, or, of wrong pairs, either says ``correct``."""
    flat = ((key, pair) for key, pairs in by_style.items() for pair in pairs)
    for ((name, style), (completion, gold)), a, b in zip(flat, mine, theirs, strict=True):
        if a != b or (a == "correct") == (kind == "wrong"):
            verdict = verify(completion, gold)
            yield {
                "pairs": kind,
                "set": name,
                "style": style,
                "gold": gold,
                "completion": completion,
                "answer": verdict.extracted or "",
                "rule": verdict.rule,
                "ours": a,
                "math-verify": b,
            }


def accuracy(pairs: Pairs, mine: list[str], theirs: list[str]) -> list[str]:
    """A table of the share found ``correct``, by data set and restyling."""
    rows = ["| data set | restyling | pairs | ours correct | math-verify correct |", "|---|---|---|---|---|"]
    at = 0
    for (name, style), some in pairs.items():
        a, b = (Counter(x[at : at + len(some)])["correct"] / len(some) for x in (mine, theirs))
        rows.append(f"| {name} | {style} | {len(some)} | {a:.2%} | {b:.2%} |")
        at += len(some)
    return rows


def grouping(folder: Path) -> dict[str, float]:
    """Seconds to group 1,000 answers of 40 classes in five spellings, and 1,000 mostly different ones."""
    known = list(dict.fromkeys(undollared(g) for g in golds(folder, "olympiadbench")))
    symbolic = [g for g in known if "\\" in g and "," not in g and "=" not in g and "geq" not in g][:40]
    forms = ["{0}", "${0}$", r"\left({0}\right)", "x = {0}", r"\displaystyle {0} \cdot 1"]
    mixed = [str(x) for name in ("math500", "olympiadbench") for x in golds(folder, name)][:1000]
    report: dict[str, float] = {}
    for name, answers in (
        ("40 classes", [forms[i // 40 % 5].format(symbolic[i % 40]) for i in range(1000)]),
        ("data sets", mixed),
    ):
        forget()
        start = time.perf_counter()
        classes = len(group(answers))
        report[f"group, {name}: seconds"] = time.perf_counter() - start
        print(
            f"group, {name}: {len(answers)} answers, {classes} classes, {time.perf_counter() - start:.2f} s"
        )
    return report


def flat(pairs: Pairs) -> list[tuple[str, str]]:
    """All pairs, in order."""
    return [pair for some in pairs.values() for pair in some]


def found_equal(folder: Path) -> list[dict[str, str]]:
    """Of all pairs of references, those that ours finds equal, with math-verify's opinion."""
    every = every_pair(folder)
    count = sum(map(len, every.values()))
    equal = {k: [p for p in pairs if ours(*p) == "correct"] for k, pairs in every.items()}
    print(f"every pair: {count:,}; ours finds {len(flat(equal))} equal", flush=True)
    theirs = [math_verify()(*p) for p in flat(equal)]
    return list(disagreements("wrong", equal, ["correct"] * len(theirs), theirs))


def side_by_side(kinds: dict[str, Pairs]) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Both verifiers in this process: the rates, and the disagreements."""
    report: dict[str, float] = {}
    rows: list[dict[str, str]] = []
    for kind, by_style in kinds.items():
        pairs = flat(by_style)
        mine, first = timed(ours_cold, pairs)
        timed(ours, pairs)
        _, memoised = timed(ours, pairs)
        theirs, base = timed(math_verify(), pairs)
        report |= rates(f"{kind}, one process", len(pairs), first, memoised, base)
        if kind == "right":
            print(*accuracy(by_style, mine, theirs), sep="\n")
        print(f"{kind}: ours {dict(Counter(mine))}, math-verify {dict(Counter(theirs))}", flush=True)
        rows += disagreements(kind, by_style, mine, theirs)
    return report, rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "math"
    )
    arguments.add_argument("--wrong", type=int, default=1000, help="so many wrong pairs")
    arguments.add_argument("--every", action="store_true", help="judge all pairs of references too")
    arguments.add_argument("--json", type=Path, help="write the rates here")
    arguments.add_argument("--disagreements", type=Path, help="write the disagreements here, one a line")
    options = arguments.parse_args()
    if not options.data.exists():
        sys.exit(f"the data {options.data} is not there; give --data FOLDER")
    prepare_worker()
    kinds = {"right": right_pairs(options.data), "wrong": wrong_pairs(options.data, options.wrong)}
    report, rows = side_by_side(kinds)
    if options.every:
        rows += found_equal(options.data)
    for row in rows:
        if row["ours"] != ("correct" if row["pairs"] == "right" else "incorrect"):
            print(f"  {row['pairs']} | ours {row['ours']} | {row['answer']!r} | {row['gold']!r}")
    report |= on_two_workers({kind: flat(pairs) for kind, pairs in kinds.items()})
    report |= grouping(options.data)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.disagreements:
        options.disagreements.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
