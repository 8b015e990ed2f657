"""Runs the programs of ``attack_programs`` against the code verifier.

As a script it runs them as whoever it is started as, and prints what came of each: see ``test_code_attacks``.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from attack_programs import AFTER, BEFORE, BOMBS, ENDING, ENDLESS, EVERYONE, FORGING, READING

from gristmill.verifiers.code.verifier import Code


def attacks(kind: str) -> dict[str, str]:
    """All attacks by name that are run in a sandbox of ``kind``."""
    found = {**READING, **FORGING, **ENDING}
    if kind == "none":
        return {name: text for name, text in found.items() if name not in BOMBS}
    return {**found, **EVERYONE}


def attacked(kind: str, name: str) -> dict[str, object]:
    """What becomes of a program that is asked for a random word by all kinds of tests."""
    seconds = 0.4 if name in ENDLESS else 1.5  # what does nothing but go on needs no time for it
    word = f"token-{secrets.token_hex(8)}"
    suite = {
        "stdin": [{"input": "1\n", "output": word}],
        "asserts": [f"assert f(1) == {word!r}", f"x = f(1)\nassert x == {word!r} and not x != {word!r}"],
        "calls": [{"function": "f", "args": [1], "expected": word}],
    }
    code = Code(
        sandbox=kind,  # type: ignore[arg-type]
        strict=True,
        allow_root=True,
        wall_seconds=seconds,
        cpu_seconds=seconds,
        memory_mb=256,
        output_kb=64,
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        data = Path(folder, "data.jsonl")
        data.write_text(json.dumps(suite))
        data.chmod(0o644)
        text = (BEFORE + attacks(kind)[name] + AFTER).replace("@", folder)
        verdict = code(f"```python\n{text}\n```", json.dumps(suite))
    return {"outcome": verdict.outcome, "score": verdict.score, "detail": verdict.detail[:1500]}


def main() -> None:
    """Attack the sandboxes that are named in the arguments; a line of JSON for each program."""
    for kind in sys.argv[1:]:
        programs = attacks(kind)
        attack = partial(attacked, kind)
        # They mostly wait. Without namespaces, one that uses up the user's processes harms those beside it.
        with ThreadPoolExecutor(2 if kind == "none" else 4) as pool:
            for name, told in zip(programs, pool.map(attack, programs), strict=True):
                print(json.dumps({"kind": kind, "name": name, "user": os.geteuid(), **told}), flush=True)


if __name__ == "__main__":
    main()
