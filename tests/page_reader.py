"""What a reader of the pages has, who answers in place of models, and what is not done, with the reason."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from page_blocks import Block
from paths import ROOT

from gristmill.core.engine import Ability, Completion, Request
from gristmill.engines.llamacpp.engine import LlamaCpp
from gristmill.engines.openai import OpenAI
from gristmill.engines.scripted import ScriptedEngine

RECORDED = Path(__file__).parent / "tutorial_completions.jsonl"
"""What the embedded model answered in the tutorial. To record it anew, give the tutorial's commands in an
empty folder, then `gristmill log export` with this file, and change the outputs on the page."""
NAMES = {
    "RUN": "rated",
    "NAME": "rated",
    "RUN:STAGE": "rated:pairs",
    "NAME:STAGE": "rated:pairs",
    "RECIPE": "rated.yaml",
    "IN...": ".gristmill/completions.sqlite",
    "FILE": "written.jsonl",
    "FILE|RUN[:STAGE]": "pairs.jsonl",
    "F": "trl-dpo",
}
"""Words of commands that a reader replaces by names of what is there."""
MODEL = "answers of a model that does what the recipe is about; CI and tests/cli run these recipes"
TORCH = "torch and weights; tests/train runs trainings and merges"
HUB = "the Hub; tests/pipelines/publishing pushes to a server of its own"
LONG = "data and minutes; the page has the figures"
PACKAGES = "the index of packages; .ci/run installs the wheel into a clean environment"
OTHER = "another program, or a service"
README = "answers that correct themselves; tests/test_readme.py runs the recipe"
FRAGMENT = "a fragment that shows how to write one"
NOT_DONE = {
    "gristmill train": TORCH,
    "gristmill merge": TORCH,
    "gristmill loop": TORCH,
    "gristmill push": HUB,
    "gristmill view": "it serves until Ctrl-C; tests/pipelines/show asks it",
    "gristmill run step-values": MODEL,
    "gristmill run tree-search": MODEL,
    "gristmill run refusal": MODEL,
    "gristmill run rag": MODEL,
    "gristmill plan step-values": MODEL,
    "gristmill show step-values": MODEL,
    "gristmill show tree-search": MODEL,
    "gristmill show runs/rag": MODEL,
    "gristmill eval step-values": MODEL,
    "gristmill eval refusal": MODEL,
    "gristmill run passages.yaml": MODEL,
    "gristmill run quickstart": MODEL,
    "gristmill run unpacking-dpo-ppo": MODEL,
    "gristmill run simpo --data": MODEL,
    "gristmill run raft --engine embedded": MODEL,
    "gristmill run raft --engine engine.yaml": MODEL,
    "gristmill run mwa --set": TORCH,
    "gristmill report quickstart": MODEL,
    "gristmill trace sums s2/3": HUB,
    "gristmill preview recipe.yaml": README,
    "gristmill run recipe.yaml": README,
    "gristmill eval self-correction recipe.yaml": README,
    "gristmill run RECIPE --executor": "a cluster, or processes; tests/pipelines/distributed runs them",
    "gristmill run preferences --executor": "a cluster, or processes; tests/pipelines/distributed runs them",
    "gristmill run math.yaml --executor": "a cluster, or processes; tests/pipelines/distributed runs them",
    "gristmill run cluster.yaml --executor slurm": "a cluster; tests/pipelines/distributed runs them",
    "gristmill verify code.jsonl": "a sandbox; tests/verifiers/code runs programs",
    "pip install '": PACKAGES,
    "pip install gristmill": PACKAGES,
    "pip install --no-deps": PACKAGES,
    "pip download": PACKAGES,
    "make": "CI itself",
    ".venv/bin": "CI itself",
    "python benchmarks": LONG,
    "GRISTMILL": "tests themselves",
    "vllm": OTHER,
    "unzip": OTHER,
    "ray": OTHER,
    "accelerate": OTHER,
    "hf": OTHER,
}
"""Commands, by how they begin, that are not given, and what they need. Their words are checked."""
NOT_RUN = {
    "docs/contributing.md": FRAGMENT,
    "docs/publishing.md": HUB,
    "docs/refusal.md": FRAGMENT,
    "docs/scores.md": FRAGMENT,
    "README.md": "tests/test_readme.py runs it",
}
"""Pages whose Python is compiled here and not run."""
NOT_OURS = {"docs/reasoning.md": "axolotl's own configuration"}
"""Pages with YAML that another program reads."""


def question(n: int) -> dict[str, Any]:
    return {
        "id": f"s{n}",
        "problem": f"What is {n} + 2?",
        "question": f"What is {n} + 2?",
        "answer": str(n + 2),
        "context": ["Two."],
    }


def pair(n: int) -> dict[str, Any]:
    sides = {
        side: [{"role": "assistant", "content": text}]
        for side, text in (("chosen", "Yes."), ("rejected", "No."))
    }
    return {"id": f"t{n}", "prompt": [{"role": "user", "content": f"Is {2 * n} even?"}], **sides}


RATED = """
name: rated
seed: 0
engine: {kind: scripted, replies: [{texts: ["\\\\boxed{3}", "It is \\\\boxed{4}.", "\\\\boxed{5}"]}]}
source: {path: questions.jsonl}
stages:
  - {stage: sample, as: samples, samples: 4}
  - {stage: demonstrations, as: curated, from: samples}
  - {stage: pairs, as: pairs, from: samples}
  - {stage: verify, as: checked, from: samples, score: check}
  - {stage: measure, as: measured, scores: {reward: words}}
exports:
  - {format: trl-dpo, from: pairs}
"""
ANSWERS = [{"answer": "1/2", "response": "So \\boxed{0.5}"}, {"answer": "12", "response": "\\boxed{13}"}]
ULTRA = [
    {"response": text, "overall_score": score, "critique": "", "model": "m"}
    for text, score in (("A.", 9), ("B.", 2))
]
FILES: dict[str, str | list[dict[str, Any]]] = {
    "rated.yaml": RATED,
    "math.yaml": RATED.replace("name: rated", "name: math"),
    "before.yaml": RATED.replace("name: rated", "name: before"),
    "questions.jsonl": [question(n) for n in range(24)],
    "gsm8k.jsonl": [question(n) for n in range(2)],
    "our_exam.jsonl": [question(n) for n in range(2)],
    "known.jsonl": [{"problem": "2 + 2?", "response": "4", "label": n % 2 == 0} for n in range(12)],
    "prompts.jsonl": [{"id": "p1", "instructions": "Say whether the answer is right."}],
    "pairs.jsonl": [pair(n) for n in range(3)],
    "rows.jsonl": [pair(n) for n in range(3)],
    "ultrafeedback.jsonl": [{"instruction": f"Say {n}.", "completions": ULTRA} for n in range(3)],
    "answers.jsonl": ANSWERS,
    "format.jsonl": [{"answer": "", "response": "Steps: one.\nAnswer: 4"}],
    "code.jsonl": [{"answer": "{}", "response": ""}],
    "ground.jsonl": [
        {"answer": json.dumps(["It is 42 metres tall."]), "response": "It is 42 metres tall [1]."}
    ],
    "labels.csv": "gold,text\nsupported,The answer is supported.\n",
}


def lay_out(folder: Path) -> None:
    """Write the files that pages speak of."""
    for name, content in FILES.items():
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        (folder / name).write_text(text, encoding="utf-8")


def not_done(command: str) -> str:
    """Why a command is not given; "" for one that is."""
    return next((why for begin, why in NOT_DONE.items() if command.startswith(begin)), "")


def not_run(block: Block) -> str:
    """Why a block of Python is not run; "" for one that is."""
    return NOT_RUN.get(block.page, "")


@cache
def recorded() -> dict[tuple[bytes, int], Completion]:
    """The tutorial's completions by their requests and sample indices."""
    found = {}
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        request = msgspec.json.encode(msgspec.convert(row["request"], Request))
        found[request, row["index"]] = msgspec.convert(row["completion"], Completion)
    return found


HOSTED = {"train": "80", "odd numbers": "100", "shirt": "50"}


def _hosted(request: Request, index: int) -> str:
    """A server that knows the answers to the questions of its page, and is sometimes wrong."""
    asked = request.messages[-1].content
    right = next((answer for word, answer in HOSTED.items() if word in asked), "4")
    return f"It is \\boxed{{{right if index % 4 else 7}}}."


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines answer from what was recorded, or by rule, and nothing of the machine's environment is seen."""
    name = json.loads(RECORDED.read_text(encoding="utf-8").partition("\n")[0])["model"]
    abilities = frozenset({Ability.CHAT, Ability.CONTINUE, Ability.LOGPROBS, Ability.SEED})

    def embedded(self: LlamaCpp) -> ScriptedEngine:
        return ScriptedEngine(
            lambda request, index: recorded()[msgspec.json.encode(request), index],
            model=name,
            abilities=abilities,
        )

    monkeypatch.setattr(LlamaCpp, "open", embedded)
    monkeypatch.setattr(OpenAI, "open", lambda self: ScriptedEngine(_hosted, model=self.model))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)


def pages() -> list[Path]:
    """All pages that are written by hand."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if "reference" not in page.relative_to(ROOT).parts]
