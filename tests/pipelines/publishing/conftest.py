"""The Hub's own client against a server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from hub_server import TOKEN, HubServer

from gristmill.pipelines.rundir.results import Run, open_run

ATTACK = "`</details><script>alert(1)</script>` ```` [a](http://b) | ![c](d)"
"""What a model may write to get into a card as markup."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[HubServer]:
    from huggingface_hub import constants

    with HubServer() as found:
        # What HF_ENDPOINT, HF_TOKEN and HF_HUB_DISABLE_XET set when the client is imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


RECIPE = {
    "name": "sums",
    "seed": 3,
    "engine": {
        "kind": "scripted",
        "replies": [
            {"match": "2 + 3", "texts": ["It is \\boxed{5}.", "It is \\boxed{6}.", "So \\boxed{5}"]},
            {"match": "4 + 4", "texts": [f"{ATTACK} \\boxed{{8}}", "It is nine."]},
            {"match": "7 + 2", "texts": ["It is \\boxed{10}."]},
        ],
    },
    "source": {"path": "sums.jsonl"},
    "stages": [
        {"stage": "sample", "samples": 4},
        {"stage": "where", "as": "right", "condition": "verdict = 'correct'"},
        {"stage": "demonstrations"},
        {"stage": "split", "shares": {"train": 0.6, "test": 0.4}},
    ],
    "exports": [{"format": "trl-prompt-completion"}, {"format": "axolotl-chat"}],
    "card": {"title": "Sums <b>of</b> small numbers", "licence": "apache-2.0", "authors": ["M. Miller"]},
}
ROWS = [("s1", "What is 2 + 3?", "5"), ("s2", "What is 4 + 4?", "8"), ("s3", "What is 7 + 2?", "9")]


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a scripted model, two exports of it, and its log beside it."""
    from gristmill.pipelines.running import runner

    folder = tmp_path_factory.mktemp("sums")
    lines = [json.dumps({"id": i, "problem": p, "answer": a}) for i, p, a in ROWS]
    source = folder / "sums.jsonl"
    source.write_text("\n".join(lines) + "\n")
    recipe = folder / "sums.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "source": {"path": str(source)}}))
    done = runner.run(recipe, runs=folder / "runs", log=folder / "log.sqlite", quiet=True)
    assert done is not None
    return open_run(folder / "runs" / "sums")
