"""A loop at work: rounds of steps, each done once, and all of them taken up where they were stopped.

The folder of a loop (of several seeds that of each, ``seed-N`` in it) holds ``loop.json`` (what it is),
``round-K`` with a folder for each step and ``done.json`` (what the finished steps made), ``rounds.json``,
``rounds.md`` and ``rounds.html``. A step that was stopped is done again and continues by its own means: a run
by the completion log, a training by its checkpoints with the optimiser's state.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.files import write_whole
from gristmill.engines.llamacpp.engine import find_model
from gristmill.pipelines.loops.checking import check, recipe_of, rows_file, told_by
from gristmill.pipelines.loops.claiming import CLAIM, claim
from gristmill.pipelines.loops.commands import RAN, gristmill, needs_torch
from gristmill.pipelines.loops.measuring import RoundMeasure, found, measured
from gristmill.pipelines.loops.options import Loop, LoopMeasure, LoopStep
from gristmill.pipelines.loops.places import Places
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.rundir.directory import hold
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.running import runner
from gristmill.pipelines.training import training_file

Say = Callable[[str], object]
_BEFORE = 1000
"""By how much the seeds of two repetitions differ: more than a loop has rounds."""
_EVALUATE = "evaluate"


class Round(Struct):
    """What a round has come to: where its steps' results are, what they found (``STEP.NAME``), the model
    after it, and the measures."""

    number: int
    model: str
    made: dict[str, str] = {}
    values: dict[str, str | float] = {}
    measures: dict[str, RoundMeasure] = {}


class Rounds(Struct, frozen=True):
    """The rounds of one seed, the state before them first."""

    seed: int
    rounds: list[Round]


def run_loop(
    loop: Loop, out: Path, *, beside: Path = Path(), log: Path | None = None, say: Say = print
) -> list[Rounds]:
    """Do all rounds in the folder ``out``, or what of them is not done yet, and give what came of them.

    ``beside`` is the folder whose files recipes name first, ``log`` the completion log. Raises ``RunError``
    for a folder of another loop and for a step that failed, ``RecipeError`` for what cannot be run, and
    ``Interrupted`` where the user stops it.
    """
    check(loop, beside)
    done = []
    for repetition in range(loop.seeds):
        seed = loop.seed + repetition * _BEFORE
        folder = _folder(out, loop, seed)
        with hold(folder):
            claim(folder, loop, seed)
            done.append(_Work(loop, seed, folder, beside, log, say).rounds())
    return done


def _folder(out: Path, loop: Loop, seed: int) -> Path:
    """The folder of a seed: of the only one it is the loop's own, and stays so where others follow."""
    own = out / f"seed-{seed}"
    first = seed == loop.seed and not own.exists()
    return out if first and (loop.seeds == 1 or (out / CLAIM).exists()) else own


class _Work:
    """The rounds of one seed."""

    def __init__(self, loop: Loop, seed: int, folder: Path, beside: Path, log: Path | None, say: Say) -> None:
        self._loop, self._seed, self._folder = loop, seed, folder
        self._beside, self._log, self._say = beside, log, say
        self._base = str(self._model(loop.model))

    def rounds(self) -> Rounds:
        """All rounds, in order."""
        before = self._round(0, None)
        done = [before]
        for number in range(1, self._loop.rounds + 1):
            before = self._round(number, before)
            done.append(before)
        return Rounds(self._seed, done)

    def _round(self, number: int, before: Round | None) -> Round:
        """A round, of which the finished steps are not done again. Round 0 is the model as it is given."""
        folder = self._folder / f"round-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "done.json"
        state = Round(number, before.model if before else self._base)
        if kept.exists():
            state = msgspec.json.decode(kept.read_bytes(), type=Round)
        for step in self._loop.steps if number else ():
            if step.name in state.made:
                continue
            if step.once and before is not None and before.number:
                state.made[step.name] = before.made[step.name]
                names = told_by(step)[1:]
                state.values |= {name: before.values[name] for name in names}
                continue
            self._say(f"round {number} of {self._loop.rounds}: {step.name}")
            state.made[step.name] = made = self._step(step, state, before, folder)
            for name, wanted in step.values.items():
                state.values[f"{step.name}.{name}"] = found(open_run(Path(made)), wanted, name)
            if step.leads and not step.run:
                state.model = state.made[step.name]
            write_whole(kept, msgspec.json.encode(state))
        if self._loop.evaluate is not None and _EVALUATE not in state.made:
            self._say(f"round {number} of {self._loop.rounds}: evaluate")
            evaluation = self._loop.evaluate
            places = self._places(state, before)
            state.made[_EVALUATE] = self._run(
                evaluation.run, evaluation.set, places, folder / _EVALUATE, own_seed=evaluation.own_seed
            )
        state.measures = {
            name: told for name, m in self._loop.measures.items() if (told := _told(state, m, name))
        }
        write_whole(kept, msgspec.json.encode(state))
        return state

    def _step(self, step: LoopStep, state: Round, before: Round | None, folder: Path) -> str:
        """Do a step; the folder of the run or of the model that it made."""
        places = self._places(state, before)
        if step.run is not None:
            return self._run(step.run, step.set, places, folder / step.name, own_seed=step.own_seed)
        out = folder / f"{step.name}{step.ending}"
        if step.train is None:
            if not out.exists():  # it appears whole, and is there if the loop was killed right behind it
                gristmill(["merge", *places.fill(step.merge), "--out", str(out)], folder / f"{step.name}.log")
            return str(out)
        data = self._data(step, state, before, folder)
        options = {"model": state.model, "seed": self._seed + state.number, **places.fill(step.options)}
        config = folder / f"{step.name}.json"
        write_whole(
            config,
            msgspec.json.format(msgspec.json.encode({**options, "data": str(data), "output": str(out)})),
        )
        words = ["train", step.train.replace("_", "-"), str(config)]
        gristmill(words, folder / f"{step.name}.log")
        return str(out / "model")

    def _run(
        self,
        given: str | dict[str, Any],
        overrides: tuple[str, ...],
        places: Places,
        place: Path,
        own_seed: bool = False,
    ) -> str:
        """Run a recipe in ``place``; continued where it was stopped. One with an engine of torch is a process
        of its own, like a training."""
        data, beside = recipe_of(given, overrides, self._beside)
        data = places.fill(data)
        data["name"] = place.name
        if not own_seed:
            data["seed"] = data.get("seed", 0) + int(places.fill("${seed}"))
        recipes.look_beside(data, beside)
        if needs_torch(data):
            file = place.with_name(f"{place.name}.recipe.json")
            write_whole(file, msgspec.json.format(msgspec.json.encode(data)))
            words = ["run", str(file), "--runs", str(place.parent), "--resume", "--quiet"]
            words += ["--log", str(self._log)] if self._log else []
            gristmill(words, place.with_name(f"{place.name}.log"), fine=RAN)
            return str(place)
        runner.run(recipes.from_dict(data), runs=place.parent, log=self._log, resume=True, quiet=True)
        return str(place)

    def _data(self, step: LoopStep, state: Round, before: Round | None, folder: Path) -> Path:
        """The rows to train on, in one file."""
        assert step.train is not None
        out = folder / f"{step.name}.jsonl"
        pieces = []
        for i, given in enumerate(step.data):
            name, _, stage = given.partition(":")
            from_before = name.startswith("previous.")
            source = before if from_before else state
            if from_before and (before is None or not before.number):
                continue  # the first round has no round before it
            run = (source.made if source else {}).get(name.removeprefix("previous."))
            if run is None:
                file = self._places(state, before).fill(given)
                pieces.append(rows_file(file, self._beside, list(state.made)).read_bytes())
                continue
            what = f"{run}:{stage}" if stage else run
            pieces.append(training_file(what, step.train, folder / f".{step.name}-{i}").read_bytes())
        # A file may end without a line break, and the next one's first row is a row of its own.
        write_whole(out, b"".join(piece if piece.endswith(b"\n") else piece + b"\n" for piece in pieces))
        return out

    def _places(self, state: Round, before: Round | None) -> Places:
        values: dict[str, str | float] = {"model": state.model, "base": self._base}
        values |= {"round": str(state.number), "seed": str(self._seed + state.number)}
        values |= {**state.made, **state.values}
        made = {s.name for s in self._loop.steps if not (s.run or s.ending)}
        models = {"model", "base"} | made
        if before is not None and before.number:
            told = {**before.made, **before.values}
            values |= {f"previous.{name}": one for name, one in told.items()}
        models |= {f"previous.{name}" for name in made}
        coming = frozenset(f"previous.{name}" for s in self._loop.steps for name in told_by(s))
        return Places(values, frozenset(models), self._packed, coming=coming)

    def _packed(self, model: str) -> str:
        """The model as a GGUF file, beside its folder or, of a model from elsewhere, in the loop's."""
        folder = Path(model)
        own = folder.resolve().is_relative_to(self._folder.resolve())
        out = folder.with_name(f"{folder.name}.gguf") if own else self._folder / "base.gguf"
        if not out.exists():
            like = str(find_model(self._loop.like))  # by this Python: the trainer's may lack the model
            words = ["train", "gguf", "--model", model, "--like", like, "--out", str(out)]
            gristmill([*words, "--precision", self._loop.precision], out.with_suffix(".log"))
        return str(out)

    def _model(self, given: str) -> Path:
        beside = self._beside / given
        return beside if beside.exists() else Path(given)


def _told(state: Round, measure: LoopMeasure, name: str) -> RoundMeasure | None:
    """The measure of a round; ``None`` where the round has no such run."""
    if (place := state.made.get(measure.of)) is None:
        return None
    return measured(open_run(Path(place)), measure, name)
