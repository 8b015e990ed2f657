"""No program is rewarded for anything but the answer, whatever it does, in any sandbox, as root and not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attack_programs import AFTER, BEFORE, ENDING, READING
from attacks import attacked, attacks
from paths import ROOT
from sandboxes import USABLE

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code import enclosure, place
from gristmill.verifiers.code.sandbox import choose
from gristmill.verifiers.code.verifier import Code

KINDS = ("bubblewrap", "unshare", "none")
TESTS = ROOT / "tests"
NOBODY = 60999
"""A user that no person or service has."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no sandboxes elsewhere")


def rewarded(told: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [one for one in told if (one["outcome"], one["score"]) != ("incorrect", 0.0)]


def test_there_are_forty_at_least() -> None:
    assert len(attacks("none")) >= 40


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "kind", [k if k == "unshare" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_no_attack_is_rewarded(kind: str) -> None:
    try:
        choose(kind, allow_root=True)  # type: ignore[arg-type]
    except RecipeError as error:
        pytest.skip(error.message)
    programs = attacks(kind)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda name: attacked(kind, name), programs))
    named = [{"name": name, **one} for name, one in zip(programs, told, strict=True)]
    assert not rewarded(named)


@pytest.mark.parametrize("kind", [*KINDS, "no Landlock"])
@pytest.mark.parametrize("name", ["parent killed", "parent stopped", "parent traced"])
def test_what_ends_its_parent_is_incorrect_without_strict_too(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "no Landlock":  # as on a kernel that has none: signals reach the launcher
        kind = "none"
        monkeypatch.setattr(place, "_GRACE", 0.3)
        parts = [(part, _without_landlock(part)) for part, _ in place._parts()]
        monkeypatch.setattr(place, "_parts", lambda: tuple(parts))
    try:
        code = Code(sandbox=kind, allow_root=True, wall_seconds=1.0, cpu_seconds=1.0)  # type: ignore[arg-type]
    except RecipeError as error:
        pytest.skip(error.message)
    text = BEFORE + ENDING[name] + AFTER
    tests = {"calls": [{"function": "f", "args": [1], "expected": "word"}]}
    verdict = code(f"```python\n{text}\n```", json.dumps(tests))
    assert (verdict.outcome, verdict.score) == ("incorrect", 0.0), verdict


def _without_landlock(part: str) -> object:
    text = (ROOT / (part.replace(".", "/") + ".py")).read_text()
    if part.endswith(".walls"):
        assert "def landlock_version() -> int:" in text
        text += "\n\ndef landlock_version():\n    return 0\n"
    return compile(text, f"{part}.py", "exec", dont_inherit=True)


@pytest.mark.parametrize("ended", [1, 2])
def test_a_launcher_that_is_killed_from_outside_costs_one_more_try(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same program that is killed by someone else, once or twice."""
    kills = iter(range(ended))
    ask = place.SandboxPlace.ask

    def killed(self: place.SandboxPlace, kind: bytes, files: Sequence[int] = ()) -> None:
        if kind == b"s" and next(kills, None) is not None:
            assert self._process is not None
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        ask(self, kind, files)

    monkeypatch.setattr(place.SandboxPlace, "ask", killed)
    code = Code(sandbox=USABLE, allow_root=True)
    tests = {"calls": [{"function": "f", "args": [1], "expected": 1}]}
    verdict = code("```python\ndef f(x): return x\n```", json.dumps(tests))
    assert verdict.outcome == ("correct" if ended == 1 else "incorrect"), verdict


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become someone else; the others are that already"
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_attack_is_rewarded_as_an_unprivileged_user(kind: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, NOBODY, NOBODY)
        become = enclosure._become(NOBODY, home, hidden=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": home,
            "TMPDIR": home,
        }
        words = [*become, sys.executable, str(TESTS / "attacks.py"), kind]
        ran = subprocess.run(words, capture_output=True, text=True, cwd=home, env=environment, timeout=850)
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(told) == len(attacks(kind)), ran.stderr[-2000:]
    assert {one["user"] for one in told} == {NOBODY}
    # With no namespace of its own, a program that uses up the user's processes makes the sandboxes of others
    # fail to start: that is an error, which earns nothing.
    failed = [one for one in told if kind == "none" and one["outcome"] == "error" and not one["score"]]
    assert not rewarded([one for one in told if one not in failed])
    assert len(failed) < len(told) / 2


@pytest.mark.parametrize(
    "name", ["frames", "gc.get_objects", "modules", "/proc/self/mem", "ctypes memory", "files"]
)
def test_the_readers_do_find_a_word_that_is_within_reach(name: str, tmp_path: Path) -> None:
    word = f"token-{os.urandom(8).hex()}"
    text = (BEFORE + READING[name] + AFTER).replace("@", str(tmp_path))
    hidden = f"import types\nkept = ['to' + 'ken-{word[6:]}']\nopen('kept', 'w').write(kept[0])\n"
    tests = {"setup": hidden, "calls": [{"function": "f", "args": [1], "expected": word}]}
    verdict = Code(allow_root=True, sandbox=USABLE)(f"```python\n{text}\n```", json.dumps(tests))
    assert verdict.correct, verdict.detail
