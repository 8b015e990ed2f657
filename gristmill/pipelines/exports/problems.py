"""Problems as prompts for reinforcement learning: TRL's GRPO and RLOO, verl, OpenRLHF, and URPO's format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from msgspec import Struct

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.exports import Contents, Export
from gristmill.core.prompts import fill
from gristmill.core.records import Pair, Problem
from gristmill.core.registry import names, suggest
from gristmill.core.stages import derive_seed
from gristmill.pipelines.exports.reasoning import ChatMessage
from gristmill.synth.scoring import said


class SolvedPrompt(Struct, frozen=True):
    """A prompt for TRL's GRPO and RLOO; the reward functions are handed the other columns."""

    id: str
    prompt: tuple[ChatMessage, ...]
    problem: str
    solution: str
    verifier: str


class Truth(Struct, frozen=True):
    """Against what verl's reward function compares an answer."""

    style: str
    ground_truth: str


class ExtraInfo(Struct, frozen=True):
    """What verl hands to its reward function of each row."""

    split: str
    index: int
    id: str
    problem: str
    verifier: str


class VerlPrompt(Struct, frozen=True):
    """A prompt for verl's RL trainers."""

    id: str
    data_source: str
    prompt: tuple[ChatMessage, ...]
    ability: str
    reward_model: Truth
    extra_info: ExtraInfo


class LabelledPrompt(Struct, frozen=True):
    """A prompt for OpenRLHF's RL trainer, with what its reward function is given as the label."""

    id: str
    input: tuple[ChatMessage, ...]
    label: str
    datasource: str


class Unified(Struct, frozen=True):
    """A prompt of any of URPO's three kinds (arXiv 2507.17515).

    ``preference``: the answer is judged by how well it ranks the ``candidates``; ``ranks`` are the true ones,
    1 for the best. ``verifiable``: it is compared with ``solution``. ``open``: the model's own scores judge
    it. What a kind does not have is empty, so that all kinds fit into one file.
    """

    id: str
    kind: Literal["preference", "verifiable", "open"]
    prompt: tuple[ChatMessage, ...]
    candidates: tuple[str, ...]
    ranks: tuple[int, ...]
    solution: str


class ProblemPrompts(Export, frozen=True, forbid_unknown_fields=True):
    """What exports of problems have in common: how the problem is put."""

    reads: ClassVar[type[Struct]] = Problem

    system: str | None = None
    """The system message before every problem, if any."""
    prompt: str = "{problem}"
    """The user's message: a template with the place ``{problem}``."""

    def messages(self, record: Problem) -> tuple[ChatMessage, ...]:
        """What the model is asked."""
        asked = ChatMessage("user", fill(self.prompt, problem=record.problem))
        return (asked,) if self.system is None else (ChatMessage("system", self.system), asked)


class Verifiable(ProblemPrompts, frozen=True, forbid_unknown_fields=True):
    """What exports of problems with reference answers have in common. One without is dropped."""

    verifier: str = "math"
    """The registered verifier that judges answers in training; it is a column, and in the reward's file."""

    def __post_init__(self) -> None:
        known = names("verifiers")
        if self.verifier not in known:
            raise RecipeError(
                f"verifier: {self.verifier!r} is not a registered verifier.",
                remedy=suggest(self.verifier, known),
            )

    def reward_file(self, out: Path, function: str, made: str) -> tuple[str, bytes]:
        """The name and the text of a Python file with the reward function for the rows at ``out``."""
        text = (
            f"# The reward for {out.name}, by the verifier that its rows name.\n"
            f"from gristmill.verifiers import {made.partition('(')[0]}\n\n"
            f"{function} = {made}\n"
        )
        return f"{_module(out)}.py", text.encode()


class TrlPrompts(Verifiable, frozen=True, forbid_unknown_fields=True):
    """``prompt`` and ``solution`` for TRL's GRPO and RLOO trainers, with the problem and the verifier's name.

    Its ``accuracy_reward`` reads ``solution``; the file of a reward function by the verifier is beside it.
    """

    writes: ClassVar[type[Struct]] = SolvedPrompt
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl grpo"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",),
        filled=("solution",),
        reserved=(
            "completion",
            "completion_ids",
            "trainer_state",
            "log_extra",
            "log_metric",
            "environments",
            "images",
            "image",
        ),
    )

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        return [
            SolvedPrompt(
                record.id, self.messages(record), record.problem, reference_of(record), self.verifier
            )
        ]

    def settings(self, out: Path) -> dict[str, Any]:
        """The reward function."""
        return {"reward_funcs": [f"{_module(out)}.reward"]}

    def beside(self, out: Path) -> dict[str, bytes]:
        """The reward function's file."""
        made = f'as_trl_reward("{self.verifier}", reference="solution", problem="problem")'
        return dict([self.reward_file(out, "reward", made)])


class VerlPrompts(Verifiable, frozen=True, forbid_unknown_fields=True):
    """verl's Parquet for RL, with the file of the reward function by the verifier beside it.

    verl's own rewards know certain data sources only, and end the training at any other: the settings name
    the file. ``extra_info.index`` is made of the id, so that a problem has the same in every export.
    """

    writes: ClassVar[type[Struct]] = VerlPrompt
    suffix: ClassVar[str] = ".parquet"
    trainer: ClassVar[str] = "verl"
    command: ClassVar[str] = "python -m verl.trainer.main_ppo"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), filled=("data_source",), reserved=("images", "videos", "audios")
    )

    data_source: str = "gristmill"
    """The name of the data, by which verl groups its metrics."""
    ability: str = "math"
    """What the problems are of."""
    split: str = "train"
    """The part of the data that this is."""

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        index = derive_seed(0, record.id)
        return [
            VerlPrompt(
                record.id,
                self.data_source,
                self.messages(record),
                self.ability,
                Truth("rule", reference_of(record)),
                ExtraInfo(self.split, index, record.id, record.problem, self.verifier),
            )
        ]

    def settings(self, out: Path) -> dict[str, Any]:
        """The keys of the data and the reward function."""
        reward = {"path": f"{_module(out)}.py", "name": "compute_score"}
        return {
            "defaults": ["ppo_trainer", "_self_"],
            "data": {"prompt_key": "prompt"},
            "reward": {"custom_reward_function": reward},
        }

    def beside(self, out: Path) -> dict[str, bytes]:
        """The reward function's file."""
        return dict([self.reward_file(out, "compute_score", f'as_verl_reward("{self.verifier}")')])


class OpenRlhfPrompts(ProblemPrompts, frozen=True, forbid_unknown_fields=True):
    """``input``, ``label`` and ``datasource`` for OpenRLHF's RL trainer. A problem without a reference answer
    is dropped. The reward function (``--reward.remote_url``) is your own."""

    writes: ClassVar[type[Struct]] = LabelledPrompt
    trainer: ClassVar[str] = "OpenRLHF"
    command: ClassVar[str] = "python -m openrlhf.cli.train_ppo_ray"
    contents: ClassVar[Contents] = Contents(prompts=("input",), filled=("label",))
    needs: ClassVar[Mapping[str, Any]] = {
        "data.input_key": "input",
        "data.label_key": "label",
        "data.apply_chat_template": True,
    }

    datasource: str = "gristmill"
    """The name of the data, by which the trainer groups its metrics."""

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        return [LabelledPrompt(record.id, self.messages(record), reference_of(record), self.datasource)]


class UrpoProblems(ProblemPrompts, frozen=True, forbid_unknown_fields=True):
    """Problems in the single format of URPO (arXiv 2507.17515): ``verifiable`` with a reference answer,
    ``open`` without. Files of ``urpo-pairs`` have the same columns and can be joined with it."""

    writes: ClassVar[type[Struct]] = Unified
    contents: ClassVar[Contents] = Contents(prompts=("prompt",), aligned=("candidates", "ranks"))

    def rows(self, record: Problem, /) -> Sequence[Struct]:
        """One row."""
        kind: Literal["verifiable", "open"] = "open" if record.answer is None else "verifiable"
        return [Unified(record.id, kind, self.messages(record), (), (), record.answer or "")]


_RANK = """Below are a conversation and two answers to it. Judge both, and say at the end how good \
each is, from 1 to 10, as: Answer 1: NUMBER, Answer 2: NUMBER.

Conversation:
{conversation}

Answer 1:
{first}

Answer 2:
{second}"""


class UrpoPairs(Export, frozen=True, forbid_unknown_fields=True):
    """Pairs as prompts in the single format of URPO (arXiv 2507.17515): the model is asked to rank the
    sides.

    A hash of the id decides which side is shown first. The paper ranks up to several answers; a pair has two.
    The wording of the prompt is ours.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Unified
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), aligned=("candidates", "ranks"), filled=("candidates",)
    )

    prompt: str = _RANK
    """The user's message: a template with the places ``{conversation}``, ``{first}`` and ``{second}``."""
    seed: int = 0
    """Another seed shows other pairs the other way round."""

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row. ``RowRejected`` where both sides are the same text."""
        texts = said(record.chosen), said(record.rejected)
        if texts[0] == texts[1]:
            raise RowRejected("both sides are the same text")
        swapped = derive_seed(self.seed, record.id) % 2
        first, second = reversed(texts) if swapped else texts
        asked = "\n\n".join(f"{message.role}: {message.content}" for message in record.prompt)
        prompt = fill(self.prompt, conversation=asked, first=first, second=second)
        ranks = (2, 1) if swapped else (1, 2)
        return [Unified(record.id, "preference", (ChatMessage("user", prompt),), (first, second), ranks, "")]


def reference_of(record: Problem) -> str:
    """The reference answer. ``RowRejected`` for a problem without one."""
    if record.answer is None:
        raise RowRejected("has no reference answer")
    return record.answer


def _module(out: Path) -> str:
    """The name of a Python module for the reward of the rows at ``out``."""
    return re.sub(r"\W", "_", out.stem) + "_reward"
