"""How much contamination ``decontaminate`` finds, and how often it is wrong, beside overlap of 13-grams.

    python benchmarks/contamination.py ../shared/data [--documents FOLDER] [--rows 1000000] [--list]

References are the 1,819 items of GSM8K and MATH-500. Planted rows: items as they are (verbatim), between two
paragraphs of documents (embedded), items of fewer than 13 words as a user's message (short), items with every
number replaced by another (renumbered), and rewordings and other notations written by hand
(``contamination_cases.jsonl``). Clean rows: the other benchmarks in the folder, identities, quotes and
templates by hand, and the hardest there are: the items of either half, against the other half. With
``--documents`` (a folder of text files or wheels) embedded items stand between paragraphs of those, and the
paragraphs are clean rows too.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import time
import zipfile
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import polars as pl

from gristmill.filters.contamination import HeldItem, ItemSearch, ReferenceItem, load

CASES = Path(__file__).with_name("contamination_cases.jsonl")
PLANTED = 400
Row = tuple[str, str | None, int | None]
"""A row's text, its answer, and the item that it holds."""


def wilson(k: int, n: int) -> str:
    """A share with its 95 % interval."""
    if not n:
        return "-"
    z, p = 1.96, k / n
    mid, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{p:.3f} [{(mid - half) / (1 + z * z / n):.3f}, {(mid + half) / (1 + z * z / n):.3f}]"


def paragraphs(folder: Path | None) -> list[str]:
    """Paragraphs of at least 25 words of the documents in a folder, or in the wheels of it."""
    texts: list[str] = []
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                names = [name for name in wheel.namelist() if name.endswith((".md", ".txt", ".rst"))]
                texts += [wheel.read(name).decode("utf-8", "replace") for name in names]
        elif path.suffix in (".md", ".txt", ".rst"):
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return [p for text in texts for p in text.split("\n\n") if len(p.split()) >= 25]


def others(data: Path) -> list[Row]:
    """Problems and questions of other benchmarks, with their answers where there are any."""
    found: list[Row] = []
    for name in ("olympiadbench", "minerva_math", "amc23", "aime24"):
        for line in (data / "math" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            answer = row.get("answer", row.get("final_answer"))
            answer = answer[0] if isinstance(answer, list) and answer else answer
            said = None if answer is None else str(answer)
            found.append((row.get("problem") or row["question"], said, None))
    with (data / "truthfulqa" / "TruthfulQA.csv").open(encoding="utf-8") as file:
        found += [(row["Question"], row["Best Answer"], None) for row in csv.DictReader(file)]
    lines = (data / "facts" / "pararel.jsonl").read_text(encoding="utf-8").splitlines()
    found += [(row["question"], str(row["answer"]), None) for row in map(json.loads, lines[::13])]
    return found


def renumbered(text: str, rng: random.Random) -> str:
    """Every number of a text replaced by another of as many digits."""

    def other(found: re.Match[str]) -> str:
        digits = len(found[0])
        least = 10 ** (digits - 1) if digits > 1 else 2
        choices = [n for n in range(least, min(10**digits, least + 500)) if str(n) != found[0]]
        return str(rng.choice(choices))

    return re.sub(r"\d+", other, text)


def planted(
    items: Sequence[ReferenceItem], between: Sequence[str], rng: random.Random
) -> dict[str, list[Row]]:
    """The rows of each kind that are made by a rule."""
    long = [i for i, item in enumerate(items) if item.length >= 13]
    short = [i for i, item in enumerate(items) if 3 <= item.length < 13]
    figures = [i for i in long if len(re.findall(r"\d+", items[i].text)) >= 2]

    def row(text: str, at: int) -> Row:
        return text, items[at].gold or None, at

    def inside(at: int) -> str:
        before, after = rng.choice(between), rng.choice(between)
        return f"{before}\n\n{items[at].text}\n\n{after}"

    return {
        "verbatim": [row(items[i].text, i) for i in rng.sample(long, PLANTED)],
        "embedded": [row(inside(i), i) for i in rng.sample(long, PLANTED)],
        "short": [row(f"User: {items[i].text}\nAssistant:", i) for i in short],
        "renumbered": [(renumbered(items[i].text, rng), None, i) for i in rng.sample(figures, PLANTED)],
    }


def by_hand(items: Sequence[ReferenceItem]) -> dict[str, list[Row]]:
    """The rows written by hand."""
    start = {"gsm8k": 0, "math500": sum(item.name.startswith("gsm8k") for item in items)}
    made: dict[str, list[Row]] = {"reworded": [], "other notation": [], "clean": []}
    for line in CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        at = None if case["set"] is None else start[case["set"]] + case["row"]
        made[case["kind"]].append((case["text"], None if at is None else items[at].gold, at))
    return made


class Ngrams:
    """Overlap of 13-grams as it is usual: lower-case words, any 13 in a row; shorter items as a whole."""

    def __init__(self, items: Sequence[ReferenceItem], size: int = 13) -> None:
        self.size = size
        self.known: dict[tuple[str, ...], set[int]] = {}
        self.sizes = {size}
        for at, item in enumerate(items):
            words = self.words(item.text)
            self.sizes.add(min(size, len(words)))
            for gram in self.grams(words, min(size, len(words))):
                self.known.setdefault(gram, set()).add(at)

    @staticmethod
    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    @staticmethod
    def grams(words: list[str], size: int) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)] if size else []

    def find(self, text: str) -> set[int]:
        words = self.words(text)
        return {
            at for size in self.sizes for gram in self.grams(words, size) for at in self.known.get(gram, ())
        }


def ours(search: ItemSearch, rows: Sequence[Row], answers: bool) -> list[HeldItem | None]:
    """What is found in each row."""
    texts = pl.Series([row[0] for row in rows], dtype=pl.String)
    return search.find(texts, [row[1] if answers else None for row in rows])


def recall(
    items: Sequence[ReferenceItem], kinds: dict[str, list[Row]], listed: bool
) -> dict[bool, list[int]]:
    """Print how many planted rows are found as what they are; with and without answers the numbers of rows
    found as that, and as another item."""
    search, ngrams = ItemSearch(items), Ngrams(items)
    totals = {True: [0, 0], False: [0, 0]}
    print("| recall of | rows | gristmill | without answers | 13-grams |\n|---|---|---|---|---|")
    for name, rows in kinds.items():
        cells = []
        for answers in (True, False):
            found = ours(search, rows, answers)
            right = [
                one is not None and one.item is items[row[2] or 0]
                for row, one in zip(rows, found, strict=True)
            ]
            cells.append(wilson(sum(right), len(rows)))
            if "half" not in name:
                totals[answers][0] += sum(right)
                totals[answers][1] += sum(one is not None for one in found) - sum(right)
            for row, good in zip(rows, right, strict=True):
                if listed and not good:
                    print(f"    missed: {items[row[2] or 0].name}: {row[0][:150]!r}")
        cells.append(wilson(sum(row[2] in ngrams.find(row[0]) for row in rows), len(rows)))
        print(f"| {name} | {len(rows)} | {' | '.join(cells)} |", flush=True)
    return totals


def false_alarms(
    items: Sequence[ReferenceItem], cleans: dict[str, list[Row]], listed: bool
) -> dict[bool, int]:
    """Print how many clean rows are taken for an item; the number with and without answers."""
    search, ngrams = ItemSearch(items), Ngrams(items)
    totals = {True: 0, False: 0}
    print("\n| taken for an item | rows | gristmill | without answers | 13-grams |\n|---|---|---|---|---|")
    for name, rows in cleans.items():
        counts = []
        for answers in (True, False):
            found = ours(search, rows, answers)
            counts.append(sum(one is not None for one in found))
            totals[answers] += counts[-1]
            _list(rows, found, listed)
        counts.append(sum(bool(ngrams.find(row[0])) for row in rows))
        print(f"| {name} | {len(rows)} | {' | '.join(map(str, counts))} |", flush=True)
    counts = [0, 0, 0]
    for half in (0, 1):  # the items of one half are clean rows for the other
        kept, rest = list(items[half::2]), items[1 - half :: 2]
        rows = [(item.text, item.gold or None, None) for item in rest]
        for at, answers in enumerate((True, False)):
            found = ours(ItemSearch(kept), rows, answers)
            counts[at] += sum(one is not None for one in found)
            _list(rows, found, listed)
        other = Ngrams(kept)
        counts[2] += sum(bool(other.find(row[0])) for row in rows)
    print(f"| items of the other half | {len(items)} | {' | '.join(map(str, counts))} |")
    return {True: totals[True] + counts[0], False: totals[False] + counts[1]}


def _list(rows: Sequence[Row], found: Sequence[HeldItem | None], listed: bool) -> None:
    for row, one in zip(rows, found, strict=True):
        if listed and one is not None:
            print(f"    {one.way}: {one.told(row[0])}")


def speed(items: Sequence[ReferenceItem], texts: Sequence[str], rows: int) -> None:
    """Time a table of ``rows`` rows, each with a number of its own so that no two are the same."""
    rng = random.Random(1)
    table = pl.Series([f"{rng.choice(texts)} ({i})" for i in range(rows)])
    words = sum(len(text.split()) for text in table.head(10_000)) / min(rows, 10_000)
    search = ItemSearch(items)
    wall, cpu = time.perf_counter(), time.process_time()
    held = sum(one is not None for one in search.find(table, [None] * rows))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"\n{rows:,} rows of {words:.0f} words: {wall:.1f} s, {cpu:.1f} CPU seconds; {held:,} held an item")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--rows", type=int, default=0, help="also time so many rows")
    parser.add_argument("--list", action="store_true", help="show what is missed and what is wrong")
    options = parser.parse_args()
    items = load([str(options.data / "math" / f"{name}.jsonl") for name in ("gsm8k", "math500")])
    clean, documents, hand = others(options.data), paragraphs(options.documents), by_hand(items)
    kinds = planted(items, documents or [row[0] for row in clean], random.Random(0))
    kinds |= {kind: rows for kind, rows in hand.items() if kind != "clean"}
    kinds["reworded, the half not tuned on"] = hand["reworded"][1::2]
    cleans = {"other benchmarks": clean, "by hand": hand["clean"]}
    cleans |= {"paragraphs of documents": [(p, None, None) for p in documents]} if documents else {}
    totals, alarms = recall(items, kinds, options.list), false_alarms(items, cleans, options.list)
    for answers, (right, other) in totals.items():
        share = wilson(right, right + other + alarms[answers])
        print(f"precision {'with' if answers else 'without'} answers: {share}")
    if options.rows:
        speed(items, [row[0] for row in clean] + documents, options.rows)


if __name__ == "__main__":
    main()
