"""``gristmill check`` beside the trainers' own code: nothing that one refuses or loses may pass unseen.

``GRISTMILL_TRAINER_PYTHON`` names a Python with trl and axolotl; ``GRISTMILL_TRAINER_PACKAGES``, if it is
set, a folder with the unpacked wheels of llamafactory, openrlhf and verl, which are then asked too.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from check_mutations import FORMATS, TOOL_FORMATS, clean, encoded, mutations, tool_rows

from gristmill.pipelines.checking import check

PROGRAM = Path(__file__).parents[2] / "real" / "ask_consumers.py"
EVERY = 17
"""Of the files with one thing wrong this many-th is asked about; all of them take a quarter of an hour."""
CONSUMERS = {
    "TRL": ("trl", "text"),
    "axolotl": ("axolotl",),
    "LLaMA-Factory": ("llamafactory", "alpaca"),
    "OpenRLHF": ("openrlhf",),
    "verl": ("verl",),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_what_a_trainer_refuses_or_loses_is_found(consumer: str, tmp_path: Path) -> None:
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    packages = os.environ.get("GRISTMILL_TRAINER_PACKAGES")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has trl and axolotl")
    if not packages and consumer not in ("TRL", "axolotl"):
        pytest.skip(f"GRISTMILL_TRAINER_PACKAGES names no folder with {consumer}")
    wrong: dict[str, dict[str, str]] = defaultdict(dict)
    formats = [name for name in FORMATS if name.startswith(CONSUMERS[consumer])]
    for name in formats:
        place = tmp_path / name
        place.mkdir()
        (place / "clean.jsonl").write_bytes(encoded(clean(name, 1000)))
        assert check(str(place / "clean.jsonl"), name).clean
        if name in TOOL_FORMATS:
            (place / "tools.jsonl").write_bytes(encoded(tool_rows(name, 1000)))
            assert check(str(place / "tools.jsonl"), name, options={"tools": "keep"}).clean
        for i, (what, data) in enumerate(mutations(clean(name))):
            if i % EVERY == 0:
                (place / f"{i}.jsonl").write_bytes(data)
                wrong[name][str(i)] = what
    command = [python, str(PROGRAM), str(tmp_path), *([packages] if packages else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    if not found:
        pytest.skip(f"the Python of GRISTMILL_TRAINER_PYTHON has no {consumer}")
    formats = [name for name in formats if name in found]
    silent = [
        f"{name}, {what}: {found[name][i]}"
        for name in formats
        for i, what in wrong[name].items()
        if found[name][i] != "takes" and check(str(tmp_path / name / f"{i}.jsonl"), name).clean
    ]
    assert not silent
    assert {found[name]["clean"] for name in formats} == {"takes"}
    assert {found[name].get("tools", "takes") for name in formats} == {"takes"}
    assert all("tools" in found[name] for name in formats if name in TOOL_FORMATS)
