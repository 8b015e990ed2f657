"""Near-duplicates found, time and memory of ``dedupe`` beside rensa, datatrove and text-dedup, in one run.

    python benchmarks/duplicates.py ../shared/data [--documents FOLDER] [--text-dedup PYTHON] [--limit N]

Texts are the problems of GSM8K, MATH-500, Minerva and OlympiadBench, and with ``--documents`` paragraphs of
the documents in a folder of text files or wheels. Of each there are three copies in which 2, 5 and 10 % of
the words (at least one) are replaced by words of other texts. Every tool runs in a process of its own and
says which texts it drops. A copy counts as found if it is dropped, or stays in the place of its original.
"At 0.75" are the copies of all kinds whose Jaccard similarity with the original, by words between spaces, is
at least that. CPU seconds are without those of imports, except text-dedup's, which is a command.
``--text-dedup`` is the Python of an environment that has text-dedup 0.4.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from contamination import paragraphs

RATES = (0.02, 0.05, 0.10)
THRESHOLD = 0.75


def originals(data: Path, documents: Path | None) -> list[str]:
    texts: list[str] = []
    for name in ("gsm8k", "math500", "minerva_math", "olympiadbench"):
        for line in (data / "math" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts.append(row.get("problem") or row["question"])
    texts += paragraphs(documents)
    return list(dict.fromkeys(" ".join(text.split()) for text in texts))


def edited(text: str, rate: float, words: list[str], rng: random.Random) -> str:
    """A text in which that share of the words, at least one, is replaced."""
    own = text.split()
    for at in rng.sample(range(len(own)), max(1, round(rate * len(own)))):
        own[at] = rng.choice(words)
    return " ".join(own)


def ours(texts: list[str], weights: Literal["rarity", "even"] = "rarity") -> list[int]:
    import polars as pl

    from gristmill.core.stages import REJECTED_REASON
    from gristmill.filters import Dedupe

    frame = pl.LazyFrame({"id": [str(i) for i in range(len(texts))], "text": texts})
    made = Dedupe(text="text", near=THRESHOLD, weights=weights)(frame, 0).collect()
    return [int(i) for i in made.filter(pl.col(REJECTED_REASON).is_not_null())["id"]]


def evenly(texts: list[str]) -> list[int]:
    """Plain Jaccard similarity, as the other tools have it."""
    return ours(texts, "even")


def one_pass(texts: list[str]) -> list[int]:
    """The search alone, as the stage ``split`` uses it."""
    from gristmill.filters import near_duplicates

    return [i for i, first in enumerate(near_duplicates(texts, THRESHOLD)) if first != i]


def by_rensa(texts: list[str]) -> list[int]:
    """As its README has it: 128 hashes in 16 bands."""
    from rensa import RMinHash, RMinHashDeduplicator

    index = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=128, use_lsh=True, num_bands=16)
    dropped = []
    for at, text in enumerate(texts):
        own = RMinHash(num_perm=128, seed=42)
        own.update(text.split())
        if not index.add(str(at), own):
            dropped.append(at)
    return dropped


def by_datatrove(texts: list[str]) -> list[int]:
    """Its four steps with their defaults: runs of 5 words, 14 buckets of 8 hashes."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupFilter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.logging import logger
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        """Its tokenizer of English needs spaCy; this one costs less."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    logger.remove()
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
    with tempfile.TemporaryDirectory() as folder:
        documents = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
        MinhashDedupSignature(f"{folder}/s", config, Spaces()).run(documents, 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(f"{folder}/s", f"{folder}/b", config=config).run(
                None, bucket, config.num_buckets
            )
        MinhashDedupCluster(f"{folder}/b", f"{folder}/r", config=config).run(None, 0, 1)
        documents = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
        kept = {int(d.id) for d in MinhashDedupFilter(f"{folder}/r").run(documents, 0, 1)}
    return [i for i in range(len(texts)) if i not in kept]


TOOLS = {
    "gristmill": ours,
    "gristmill, weights: even": evenly,
    "gristmill, groups only": one_pass,
    "rensa": by_rensa,
    "datatrove": by_datatrove,
}


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """The CPU seconds of a process and those it waits for, and the most memory that one held, in MB."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}: {said.decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run(name: str, file: Path, text_dedup: str | None) -> tuple[set[int], float, float]:
    environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parent)}
    if text_dedup is None:
        made = file.with_suffix(".out")
        cpu, memory = measured(
            [sys.executable, __file__, "--worker", name, str(file), str(made)], environment
        )
        dropped, cpu = json.loads(made.read_text())
        return set(dropped), cpu, memory
    folder = file.parent / f"text-dedup-{name}"
    options = ["--path", "json", "--data_files", str(file), "--split", "train", "--column", "text"]
    options += ["--output", str(folder), "--num_proc", "1", "--cache_dir", str(file.parent / "cache")]
    options += ["--ngram", name, "--threshold", str(THRESHOLD), "--min_length", "1"]
    cpu, memory = measured([text_dedup, "-m", "text_dedup.minhash", *options], environment)
    read = "import sys, json, datasets; print(json.dumps(list(datasets.load_from_disk(sys.argv[1])['id'])))"
    command = [text_dedup, "-c", read, str(folder)]
    kept = subprocess.run(command, capture_output=True, check=True, text=True, cwd=file.parent)
    rows = file.read_text(encoding="utf-8").splitlines()
    return set(range(len(rows))) - set(json.loads(kept.stdout)), cpu, memory


def worker(name: str, file: str, made: str) -> None:
    """Run a tool, and write what it drops and its CPU seconds; what it imports is imported before."""
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows]
    tool = TOOLS.get(name, lambda texts: [])
    tool(texts[:8])
    start = time.process_time()
    dropped = tool(texts)
    Path(made).write_text(json.dumps([dropped, time.process_time() - start]))


def line(name: str, dropped: set[int], texts: list[str], cpu: float, memory: float) -> str:
    """A row of the table: of the copies of each kind the share found, and texts that are lost altogether."""
    group = 1 + len(RATES)
    found = [at in dropped or at - at % group in dropped for at in range(len(texts))]
    shares = [sum(found[at::group]) / len(found[at::group]) for at in range(1, group)]
    near = [at for at in range(len(texts)) if at % group and alike(texts[at], texts[at - at % group])]
    shares.append(sum(found[at] for at in near) / len(near))
    firsts = range(0, len(texts), group)
    lost = sum(all(member in dropped for member in range(first, first + group)) for first in firsts)
    cells = " | ".join(f"{share:.3f}" for share in shares)
    return f"| {name} | {cells} | {lost} | {len(texts) / max(cpu, 1e-9):,.0f} | {memory:,.0f} |"


def alike(one: str, other: str) -> bool:
    """Whether two texts have the similarity, by words."""
    first, second = set(one.lower().split()), set(other.lower().split())
    return len(first & second) >= THRESHOLD * len(first | second)


def own_measure(texts: list[str]) -> str:
    """Of the copies that are as similar by our own weights, the share that is found as a pair."""
    import numpy as np

    from gristmill.filters.duplicates import feature_sets, similar_pairs, similarities

    features = feature_sets(texts)
    group = 1 + len(RATES)
    copies = np.array([at for at in range(len(texts)) if at % group])
    near = copies[similarities(features, features.weights(), copies - copies % group, copies) >= THRESHOLD]
    pairs = similar_pairs(features, THRESHOLD)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    share = sum((at - at % group, at) in found for at in near.tolist()) / len(near)
    return (
        f"\nof {len(near):,} copies that are as similar by weights of rarity, {share:.4f} are found as a pair"
    )


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5])
        return
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--text-dedup", help="the Python of an environment with text-dedup")
    parser.add_argument("--limit", type=int, help="so many originals at most")
    options = parser.parse_args()
    rng = random.Random(0)
    first = originals(options.data, options.documents)[: options.limit]
    words = [word for text in first for word in text.split()]
    texts = [t for text in first for t in (text, *(edited(text, rate, words, rng) for rate in RATES))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.jsonl"
        file.write_text(
            "\n".join(json.dumps({"id": i, "text": t}) for i, t in enumerate(texts)), encoding="utf-8"
        )
        mean = len(words) / len(first)
        print(f"{len(texts):,} texts of {mean:.0f} words\n")
        print("| | 2 % | 5 % | 10 % | at 0.75 | texts lost | texts per CPU second | MB |")
        print("|---|---|---|---|---|---|---|---|")
        _, _, held = run("nothing", file, None)
        print(f"| Python with the texts | | | | | | | {held:,.0f} |")
        for name in TOOLS:
            dropped, cpu, memory = run(name, file, None)
            print(line(name, dropped, texts, cpu, memory), flush=True)
        for size in ("5", "1") if options.text_dedup else ():
            dropped, cpu, memory = run(size, file, options.text_dedup)
            print(line(f"text-dedup, runs of {size}", dropped, texts, cpu, memory), flush=True)
    print(own_measure(texts))


if __name__ == "__main__":
    main()
