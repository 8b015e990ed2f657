"""Pairs of a passage and a claim by the authors of TruthfulQA, with labels by hand, to test an encoder on.

python benchmarks/encoder_claims.py TruthfulQA.csv OUT.jsonl

The passage is the best answer to a question, the claim another answer, by its place among the correct (C) or
the incorrect (W) ones. The questions are the first 40 by the SHA-256 of their text. The labels say what the
passage alone makes of the claim, not whether it is true; they were set before any encoder read the pairs.
What one may argue about was left out. Then: gristmill train encoder ... --set test=OUT.jsonl
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path

LABELS = {
    "supported": "1C1 2C2 3C1 3C2 7C1 10C1 12C2 13C1 18C1 22C1 22C2 25C2 38C1 38C2",
    "contradicted": "0W0 0W1 1W0 2W0 3W0 9W0 9W1 10W0 12W0 12W1 14W0 15W0 15W1 21W0 21W1 22W1 23W0 25W0 26W0 "
    "30W0 35W0 36W1",
    "unsupported": "0C1 5C1 5W0 7W0 9C1 13W0 14C1 16C1 16W0 18W0 20W0 27C1 27W0 30C2 31C1 32W0 33C1 35C1 "
    "36C1 36W0 38W0 39C1 39W0",
}


def main(source: Path, out: Path) -> None:
    """Write the pairs."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = sorted(
            csv.DictReader(file), key=lambda row: hashlib.sha256(row["Question"].encode()).hexdigest()
        )
    with out.open("w", encoding="utf-8") as file:
        for label, places in LABELS.items():
            for place in places.split():
                number, kind, which = int(place[:-2]), place[-2], int(place[-1])
                row = rows[number]
                listed = row["Correct Answers" if kind == "C" else "Incorrect Answers"].split(";")
                pair = {"passage": row["Best Answer"], "sentence": listed[which].strip(), "label": label}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
