"""What the checks of ``quality`` reject of texts that people wrote, and what they find of planted faults.

    python benchmarks/quality.py DATA [--bank WHEEL] [--show CHECK]

DATA has math/*.jsonl and truthfulqa/TruthfulQA.csv. Their texts are taken to be sound: what is rejected is
shown with ``--show``, to be judged by hand. Faults are then planted into the solutions of MATH-500, Minerva,
AIME and OlympiadBench, one in each, with a seed, and the share that the check finds is counted, and the share
that any check finds. ``--bank`` is a wheel whose .md and .txt files are texts too. The findings are in
docs/quality.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gristmill.filters.quality import (
    Boilerplate,
    LanguageCheck,
    LeakedAnswer,
    Listed,
    PersonalData,
    RefusalCheck,
    Repetition,
    RowFacts,
    TextCheck,
    Truncation,
    Unbalanced,
)

CHECKS: dict[str, TextCheck] = {
    "repetition": Repetition(),
    "truncation": Truncation(),
    "unbalanced": Unbalanced(),
    "language": LanguageCheck(keep=["en"]),
    "refusal": RefusalCheck(),
    "boilerplate": Boilerplate(),
    "personal": PersonalData(),
    "leaked": LeakedAnswer(),
    "listed": Listed(),
}


def texts(data: Path, bank: Path | None) -> dict[str, list[tuple[str, RowFacts]]]:
    """The texts by where they are from, each with its prompt and answer where it has them."""
    found: dict[str, list[tuple[str, RowFacts]]] = {}
    for path in sorted((data / "math").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        prompt = "problem" if "problem" in rows[0] else "question"
        found[f"{path.stem} problems"] = [(row[prompt], RowFacts(row[prompt], _answer(row))) for row in rows]
        solution = next((name for name in ("solution", "answer") if name in rows[0]), "")
        said = ["\n".join(s) if isinstance(s := row.get(solution) or "", list) else str(s) for row in rows]
        if sum(map(len, said)) > 50 * len(said):
            found[f"{path.stem} solutions"] = [(text, RowFacts()) for text in said if text]
    with (data / "truthfulqa" / "TruthfulQA.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found["TruthfulQA questions"] = [(r["Question"], RowFacts(r["Question"], r["Best Answer"])) for r in rows]
    answers = [a.strip() for r in rows for a in f"{r['Correct Answers']};{r['Incorrect Answers']}".split(";")]
    found["TruthfulQA answers"] = [(answer, RowFacts()) for answer in answers if answer]
    if bank is not None:
        with zipfile.ZipFile(bank) as wheel:
            names = [name for name in sorted(wheel.namelist()) if name.endswith((".md", ".txt"))]
            found["bank"] = [(wheel.read(name).decode("utf-8", "replace"), RowFacts()) for name in names]
    return found


def _answer(row: dict[str, object]) -> str | None:
    answer = row.get("final_answer") or row.get("answer")
    answer = answer[0] if isinstance(answer, list) else answer
    return str(answer).rpartition("####")[2].strip() if answer is not None else None


def cut(text: str, draw: random.Random) -> str:
    """The text up to a character in its second half."""
    return text[: draw.randrange(len(text) // 2, len(text) - 3)]


def loop(text: str, draw: random.Random) -> str:
    """The text, with a run of 4 to 12 words of it 8 times at its end."""
    words = text.split()
    size = min(draw.randint(4, 12), len(words))
    start = draw.randrange(len(words) - size + 1)
    return f"{text} {' '.join(words[start : start + size] * 8)}"


def again(text: str, draw: random.Random) -> str:
    """The text three times."""
    return "\n".join([text] * 3)


def without(pattern: str) -> Callable[[str, random.Random], str]:
    """The text without one place that matches, as it is where there is none."""

    def remove(text: str, draw: random.Random) -> str:
        hits = list(re.finditer(pattern, text))
        if not hits:
            return text
        hit = draw.choice(hits)
        return text[: hit.start()] + text[hit.end() :]

    return remove


def beside(*pieces: str) -> Callable[[str, random.Random], str]:
    """The text with one of the pieces between two of its words."""

    def put(text: str, draw: random.Random) -> str:
        spaces = [hit.start() for hit in re.finditer(" ", text)] or [len(text)]
        at = draw.choice(spaces)
        return f"{text[:at]} {draw.choice(pieces)} {text[at:]}"

    return put


FAULTS: list[tuple[str, str, Callable[[str, random.Random], str]]] = [
    ("truncation", "cut anywhere in the second half", cut),
    ("repetition", "a run of words 8 times at the end", loop),
    ("repetition", "the whole text three times", again),
    ("unbalanced", "one $ removed", without(r"(?<![\\$])\$(?!\$)")),
    ("unbalanced", "one } removed", without(r"(?<!\\)\}")),
    ("unbalanced", r"one \right removed", without(r"\\right(?![a-z])")),
    ("unbalanced", r"one \] removed", without(r"\\\]")),
    ("personal", "an e-mail address", beside("jan.maes@brouwerij-maes.be", "kontakt+neu@hof-lindner.de")),
    ("personal", "a phone number", beside("+32 2 555 12 34", "(415) 555-0132", "+49 30 901820")),
    ("personal", "an IBAN or a card", beside("BE68 5390 0754 7034", "5555 5555 5555 4444")),
    ("personal", "a key", beside("ghp_abcdefghij0123456789abcd", "AKIAABCDEFGHIJKLMNOP")),
    ("boilerplate", "a chat token or a notice", beside("<|im_end|>", "All rights reserved.")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--show", choices=CHECKS)
    given = parser.parse_args()
    sound = texts(given.data, given.bank)
    seconds: Counter[str] = Counter()
    for source, rows in sound.items():
        counts: Counter[str] = Counter()
        for text, told in rows:
            for name, check in CHECKS.items():
                start = time.process_time()
                fault = check.find(text, told)
                seconds[name] += time.process_time() - start
                counts[name] += fault is not None
                if fault is not None and name == given.show:
                    print(f"  {source}: {fault}")
        print(f"{source}: {len(rows)} texts, rejected: {dict(+counts) or 'none'}")
    total = sum(map(len, sound.values()))
    print("texts per CPU second:", {name: round(total / spent) for name, spent in seconds.items()})
    bases = [t for name in sound if "solutions" in name and "gsm8k" not in name for t, _ in sound[name]]
    for name, fault_name, plant in FAULTS:
        draw = random.Random(fault_name)
        check = CHECKS[name]
        planted = [made for text in bases if len(text) > 80 and (made := plant(text, draw)) != text]
        found = sum(check.find(text, RowFacts()) is not None for text in planted)
        some = sum(any(c.find(text, RowFacts()) for c in CHECKS.values()) for text in planted[::4])
        share, by_any = found / len(planted), some / len(planted[::4])
        print(f"{name}: {fault_name}: {share:.3f} of {len(planted)} found, by any check {by_any:.3f}")


if __name__ == "__main__":
    main()
