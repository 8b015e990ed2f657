"""The mathematics verifier beside math-verify: accuracy on right and wrong pairs, and pairs a second.

    python benchmarks/verifiers.py [--data ../shared/data/math] [--wrong 1000] [--json FILE]

Right pairs: each reference against itself in five restylings. Wrong pairs: a reference against the answer
of another problem, drawn with a fixed seed. Both verifiers judge the same pairs in one process, one after
the other, without deadlines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from gristmill.verifiers.math import Math, forget, group, last_box, prepare_worker

SETS = ("math500", "gsm8k", "amc23", "aime24", "minerva_math", "olympiadbench")
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


def right_pairs(folder: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(completion, reference) by data set and restyling."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name in SETS:
        for gold in golds(folder, name):
            for style, completion in restylings(gold).items():
                pairs.setdefault((name, style), []).append((completion, gold))
    return pairs


def wrong_pairs(folder: Path, count: int) -> list[tuple[str, str]]:
    """A boxed answer of one problem against the reference of another that is written otherwise."""
    draw = random.Random(7)
    pairs: list[tuple[str, str]] = []
    for name in SETS:
        known = list(golds(folder, name))
        drawn = 0
        for _ in itertools.repeat(None, 50 * count):
            a, b = draw.choice(known), draw.choice(known)
            if undollared(a).replace(" ", "") != undollared(b).replace(" ", ""):
                pairs.append((rf"The answer is \boxed{{{a}}}.", b))
                drawn += 1
            if drawn == count // len(SETS):
                break
    return pairs


def math_verify() -> Callable[[str, str], str]:
    """math-verify's own ``parse`` and ``verify``, without its time-outs."""
    import math_verify as theirs

    logging.disable(logging.CRITICAL)

    def judge(completion: str, reference: str) -> str:
        wanted = theirs.parse(rf"\boxed{{{reference}}}", parsing_timeout=None)
        found = theirs.parse(completion, parsing_timeout=None)
        return "correct" if theirs.verify(wanted, found, timeout_seconds=None) else "incorrect"

    return judge


def ours(*, cold: bool = False) -> Callable[[str, str], str]:
    """Our verifier; ``cold``: with every memo emptied before each pair, so that no pair helps another."""
    verifier = Math()

    def judge(completion: str, reference: str) -> str:
        if cold:
            forget()
        return verifier(completion, reference).outcome.value

    return judge


def timed(judge: Callable[[str, str], str], pairs: list[tuple[str, str]]) -> tuple[list[str], float]:
    """The outcomes, and pairs a second."""
    start = time.perf_counter()
    outcomes = [judge(*pair) for pair in pairs]
    return outcomes, len(pairs) / (time.perf_counter() - start)


def accuracy(
    pairs: dict[tuple[str, str], list[tuple[str, str]]], mine: list[str], theirs: list[str]
) -> list[str]:
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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "math"
    )
    arguments.add_argument("--wrong", type=int, default=1000)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    if not options.data.exists():
        sys.exit(f"the data {options.data} is not there; give --data FOLDER")
    prepare_worker()
    by_style = right_pairs(options.data)
    right = [pair for pairs in by_style.values() for pair in pairs]
    wrong = wrong_pairs(options.data, options.wrong)
    judge, first_judge, reference = ours(), ours(cold=True), math_verify()
    report: dict[str, float] = {}
    mine: dict[str, list[str]] = {}
    theirs: dict[str, list[str]] = {}
    for kind, pairs in (("right", right), ("wrong", wrong)):
        mine[kind], first = timed(first_judge, pairs)
        timed(judge, pairs)
        _, memoised = timed(judge, pairs)
        theirs[kind], base = timed(reference, pairs)
        report |= {f"{kind}: ours": first, f"{kind}: memoised": memoised, f"{kind}: math-verify": base}
        print(
            f"{kind}: {len(pairs):,} pairs; ours {first:,.0f}/s, memoised {memoised:,.0f}/s, math-verify "
            f"{base:,.0f}/s; ratios {first / base:.1f} and {memoised / base:.0f}"
        )
    print(*accuracy(by_style, mine["right"], theirs["right"]), sep="\n")
    for kind, pairs in (("right", right), ("wrong", wrong)):
        print(f"{kind}: ours {dict(Counter(mine[kind]))}, math-verify {dict(Counter(theirs[kind]))}")
        for pair, a, b in zip(pairs, mine[kind], theirs[kind], strict=True):
            if a != b or (kind == "wrong" and a == "correct") or (kind == "right" and a != "correct"):
                print(f"  {kind} | ours {a} | math-verify {b} | {pair[0]!r} | {pair[1]!r}")
    report |= grouping(options.data)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
