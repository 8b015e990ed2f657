"""R-Tuning closed on a real model: sample facts, build the data sets, fine-tune on the CPU, measure held out.

For each seed: facts are drawn and some of their relations set apart (out of domain); the embedded model is
asked them (``data/recipes/refusal.yaml``), data sets are made, a copy of the model is trained on each
(``data/training/refusal.yaml``), packed as GGUF and asked the held-out questions. Before and after are the
same weights but for the training, both as 16-bit GGUF. Before it has two worked examples in its prompt, of
which the trained models have no need; it answers everything ("before"), or is asked whether it is sure
("before, asked"). "known" is what the greedy answer before the training had right (R-Tuning's own rule), or
with ``--rule rate`` most of the samples. "sure" and "unsure" are trained in equal numbers.

    python benchmarks/refusal_loop.py --facts FILE --seeds 3 --out DIR [--methods sure_unsure plain]

``--trainer`` (default: $GRISTMILL_TRAINER_PYTHON, else this Python) is the Python that has torch and TRL.
Started again it goes on: answers are in the completion log, finished trainings are skipped. Tables
with intervals (bootstrap over questions, within a seed) go to ``DIR/seed-N``, all seeds' to ``DIR/table.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from gristmill.core.errors import MissingExtraError
from gristmill.core.knowledge import Response
from gristmill.engines.llamacpp.engine import find_model
from gristmill.pipelines.evaluate import refusal as ev
from gristmill.pipelines.evaluate import refusal_report
from gristmill.pipelines.recipe.recipe import from_dict, load
from gristmill.pipelines.running.runner import run

ROOT = Path(__file__).parents[1]
METHODS = ("sure_unsure", "refuse", "uncertainty", "plain")
ASKED = {"sure_unsure": "sure", "uncertainty": "sure", "refuse": "refusal", "plain": "plain"}
"""How a model trained on a data set is asked."""
VERIFIER = {"kind": "short_answer", "options": {"metric": "contains", "extract": "whole"}}
SHOWN = ("accuracy_all", "accuracy", "refusal_rate", "willingness", "declined_unknown", "ap", "auroc", "ece")
PARTS = {"test": "in domain", "test_ood": "out of domain"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--facts", type=Path, required=True, help="JSON lines: question, answer, relation")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["sure_unsure"])
    parser.add_argument("--train", type=int, default=800, help="questions to train on")
    parser.add_argument("--test", type=int, default=400, help="held-out questions, in domain and out of it")
    parser.add_argument("--out-share", type=float, default=0.4, help="of the relations, out of domain")
    parser.add_argument("--samples", type=int, default=10, help="answers to each question")
    parser.add_argument("--rule", choices=("greedy", "rate"), default="greedy", help="what counts as known")
    parser.add_argument("--set", action="append", default=[], help="override of the training configuration")
    trainer = os.environ.get("GRISTMILL_TRAINER_PYTHON", sys.executable)
    parser.add_argument("--trainer", default=trainer, help="the Python with torch and TRL")
    return parser.parse_args()


def train_command(python: str, *words: str | Path) -> None:
    """``gristmill train ...`` in the Python that can."""
    code = "from gristmill.cli.models.train import app; app()"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    subprocess.run([python, "-c", code, *map(str, words)], check=True, env=env)


def base_model(args: argparse.Namespace) -> tuple[Path, Path]:
    """The embedded model as a folder and, of the very same weights, as a 16-bit GGUF file."""
    folder, packed = args.out / "base", args.out / "base.gguf"
    source = find_model("")  # by this Python: the trainer's need not have the model's package
    if not folder.exists():
        train_command(args.trainer, "weights", "--model", source, "--out", folder)
    if not packed.exists():
        train_command(args.trainer, "gguf", "--model", folder, "--like", source, "--out", packed)
    return folder, packed


def choose(args: argparse.Namespace, seed: int, place: Path) -> list[str]:
    """Write ``facts.jsonl`` for a seed; the relations that are out of domain."""
    rows = [json.loads(line) for line in args.facts.read_text().splitlines()]
    by_relation: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_relation[row["relation"]].append(row)
    rng = random.Random(seed)
    relations = sorted(by_relation)
    rng.shuffle(relations)
    out = relations[: round(args.out_share * len(relations))]
    drawn = draw(rng, [by_relation[r] for r in relations[len(out) :]], args.train + args.test)
    drawn += draw(rng, [by_relation[r] for r in out], args.test)
    rng.shuffle(drawn)
    place.mkdir(parents=True, exist_ok=True)
    (place / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drawn))
    return out


def draw(rng: random.Random, groups: list[list[dict[str, str]]], count: int) -> list[dict[str, str]]:
    """As many of each group as there can be, the same fact never twice."""
    queues = [rng.sample(group, len(group)) for group in groups]
    drawn: list[dict[str, str]] = []
    while len(drawn) < count and any(queues):
        for queue in queues:
            if queue and len(drawn) < count:
                drawn.append(queue.pop())
    return drawn


def seed_systems(args: argparse.Namespace, seed: int, base: tuple[Path, Path]) -> dict[str, list[Response]]:
    """The responses of one seed's models to the held-out questions, by system."""
    place = args.out / f"seed-{seed}"
    out = choose(args, seed, place)
    log, runs = args.out / "completions.sqlite", place / "runs"
    held_out = args.test / (args.train + args.test)
    partition = json.dumps(
        {"domain": "relation", "out": out, "test": held_out, "near_duplicates": None} | {"stratify": False}
    )
    recipe = load(
        ROOT / "data" / "recipes" / "refusal.yaml",
        [
            f"seed={seed}",
            f"source.path={place / 'facts.jsonl'}",
            f"engine.model={base[1]}",
            f"stages.probe_knowledge.samples={args.samples}",
            f"stages.refusal_split.partition={partition}",
            f"stages.refusal_split.rule={args.rule}",
            f"stages.by_entropy.partition={partition}",
        ],
    )
    made = run(recipe, runs=runs, log=log)
    found = ev.run_systems(made)
    systems = {"before": found["before"], "before, asked": found["before_asked"]}
    held = {r.id for r in found["before"]}
    lines = (place / "facts.jsonl").read_text().splitlines(keepends=True)
    questions = place / "held_out.jsonl"
    questions.write_text("".join(line for line in lines if json.loads(line)["id"] in held))
    for method in args.methods:
        model = trained(args, seed, base, place / method, runs / "refusal" / "exports" / f"{method}.jsonl")
        systems[method] = ask(method, model, questions, runs, log)
    return ev.with_known(systems, ev.certainties(made, "refusal_split"))


def trained(args: argparse.Namespace, seed: int, base: tuple[Path, Path], place: Path, data: Path) -> Path:
    """A model trained on ``data``, as a GGUF file named after its place, so that the log tells it apart."""
    packed = place / f"{place.parent.name}-{place.name}.gguf"
    if not packed.exists():
        given = [f"model={base[0]}", f"data={data}", f"output={place}", f"seed={seed}", *args.set]
        config = ROOT / "data" / "training" / "refusal.yaml"
        train_command(args.trainer, "sft", config, *(word for text in given for word in ("--set", text)))
        train_command(args.trainer, "gguf", "--model", place / "model", "--like", base[1], "--out", packed)
    return packed


def ask(method: str, model: Path, questions: Path, runs: Path, log: Path) -> list[Response]:
    """What a trained model says to the held-out questions, without worked examples."""
    recipe = from_dict(
        {
            "name": f"after-{method}",
            "engine": {"kind": "llamacpp", "model": str(model), "concurrency": 16, "context": 512},
            "source": {"path": str(questions)},
            "verifier": VERIFIER,
            "stages": [{"stage": "ask_or_refuse", "method": ASKED[method]}],
        }
    )
    return ev.run_systems(run(recipe, runs=runs, log=log))["ask_or_refuse"]


def table(reports: Sequence[ev.RefusalReport]) -> str:
    """Each measure as the mean over the seeds, with every seed's value in brackets."""
    blocks = []
    for part, title in PARTS.items():
        groups = [next(g for g in report.groups if g.name == part) for report in reports]
        names = [s.name for s in groups[0].comparison.systems]
        lines = [f"| {title} | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
        for metric in SHOWN:
            cells = []
            for name in names:
                systems = [next(s for s in g.comparison.systems if s.name == name) for g in groups]
                values = [s.measures.values[metric] for s in systems]
                cells.append(cell(values))
            lines.append(f"| {metric} | {' | '.join(cells)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def cell(values: Sequence[float | None]) -> str:
    """``0.512 (0.50 0.51 0.53)``; a dash for what a seed has none of."""
    there = [v for v in values if v is not None]
    shown = " ".join("-" if v is None else f"{v:.2f}" for v in values)
    return f"{statistics.mean(there):.3f} ({shown})" if there else "-"


def write(report: ev.RefusalReport, place: Path) -> None:
    """A seed's measures with intervals as text and JSON; with diagrams where matplotlib is installed."""
    (place / "report.txt").write_text(ev.table(report) + "\n")
    (place / "report.json").write_bytes(report.encode())
    try:
        refusal_report.write(report, place / "report")
    except MissingExtraError as error:
        print(f"no diagrams: {error}", file=sys.stderr)


def main() -> None:
    """All seeds, one after another; the table is written anew after each."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    base = base_model(args)
    reports = []
    for seed in range(args.seeds):
        report = ev.evaluate(seed_systems(args, seed, base))
        reports.append(report)
        write(report, args.out / f"seed-{seed}")
        (args.out / "table.md").write_text(table(reports))
    print(table(reports))


if __name__ == "__main__":
    main()
