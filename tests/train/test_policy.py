"""Policies: closed forms, rewards, two turns, and trainings of a tiny model in the Python that has TRL.

It is longer than most: one program that starts torch once makes all the trials that are looked at.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from paths import ROOT, TESTS

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.train.online.process import ImplicitReward, token_advantages
from gristmill.train.online.rewards import Judging, PolicyReward, make_rewards
from gristmill.train.online.turns import SelfCorrection, rollout
from gristmill.train.policy import Policy
from gristmill.verifiers.loading import at
from gristmill.verifiers.pool.in_process import InProcess

TRAIN = TESTS / "train"
BASE = {"model": "m", "data": "d", "output": "o"}


def judge(completion: str, reference: str) -> Verdict:
    """Right where it ends with the reference; "?" is not decided."""
    if "?" in completion:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if completion.endswith(reference) else Outcome.INCORRECT)


def short(completion: str, reference: str) -> Verdict:
    """A score: 1 for one word, 1/2 for two, and so on."""
    return Verdict(Outcome.CORRECT, score=1 / len(completion.split()))


def said(completions: Sequence[Any], **columns: Any) -> list[float]:
    return [
        float(level) + len(completion[-1]["content"])
        for completion, level in zip(completions, columns["level"], strict=True)
    ]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifiers of this file need no worker processes; the trainings of ``tiny_policy.py`` have them."""

    def maker(verifier: str, **settings: Any) -> Callable[[], InProcess]:
        return lambda: InProcess(at(verifier))

    monkeypatch.setattr("gristmill.verifiers.rewards.pool_maker", maker)


def rewarded(
    texts: Sequence[str],
    *rewards: dict[str, Any],
    firsts: Sequence[str] | None = None,
    correction: SelfCorrection | None = None,
) -> list[list[float | None]]:
    """The rewards of answers to one problem with the answer 16, one list for each function."""
    rows = [{"prompt": "p", "problem": "p", "solution": "16", "level": 3}]
    given = [msgspec.convert(reward, PolicyReward) for reward in rewards]
    judging = Judging(kind=f"{__name__}:judge")
    functions, _ = make_rewards(given, judging, rows, correction)
    count = len(texts)
    columns: dict[str, Any] = {
        "prompts": ["p"] * count,
        "completion_ids": [[0] * len(t.split()) for t in texts],
    }
    if firsts is not None:
        columns |= {"first_answers": firsts, "final_answers": texts, "final_ids": columns["completion_ids"]}
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    return [f(completions=completions, row=[0] * count, **columns) for f in functions]


def test_prime_is_the_closed_form() -> None:
    # The scores of algorithms.md C.7: the greatest sum to an end is .6, of the first answer.
    scores = [[0.2, 0.4], [0.1, -0.1], [0.0, 0.2], [-0.3, 0.1]]
    outcomes = [1.0, 0.0, 1.0, 0.0]
    by_hand = []
    means = [sum(row) / 2 for row in scores]
    for i, row in enumerate(scores):
        others = [m for j, m in enumerate(means) if j != i]
        dense = [(r - sum(others) / 3) / 0.600001 for r in row]
        own = outcomes[i] - (sum(outcomes) - outcomes[i]) / 3
        by_hand.append([5 * sum(dense) + own, 5 * dense[1] + own])
    for row, wanted in zip(token_advantages(scores, outcomes), by_hand, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)
    # The first row: leave-one-out .2 and .4 (C.7), outcome .666667.
    assert by_hand[0] == pytest.approx([5 * 0.6 / 0.600001 + 2 / 3, 5 * 0.4 / 0.600001 + 2 / 3])
    # As in the authors' code, the same answer's scores are .166667 and .433333.
    prime = token_advantages(scores, outcomes, baseline="prime")
    assert prime[0] == pytest.approx([5 * 0.6 / 0.600001 + 2 / 3, 5 * 0.433333 / 0.600001 + 2 / 3], abs=1e-5)


def test_what_is_not_decided_has_no_advantage_and_no_part_in_the_others() -> None:
    whole = token_advantages([[0.2, 0.4], [0.1], [0.3]], [1.0, None, 0.0])
    assert whole[1] == [0.0]
    assert [whole[0], whole[2]] == token_advantages([[0.2, 0.4], [0.3]], [1.0, 0.0])
    assert token_advantages([[0.2], [0.1]], [None, 1.0]) == [[0.0], [0.0]]


def test_without_rewards_the_verdict_is_the_reward() -> None:
    assert rewarded(["16", "7", "16?"]) == [[1.0, 0.0, None]]


def test_rewards_of_a_length_a_limit_on_scores_and_a_function_of_ones_own() -> None:
    texts = ["it is 16", "16", "7"]
    limits = {"short": {"threshold": 0.5}, "verdict": {"threshold": 1, "weight": 2}}
    length, limited, own = rewarded(
        texts,
        {"shape": {"kind": "laser", "target": 2}},
        {
            "scores": {"short": {"kind": f"{__name__}:short"}},
            "shape": {"kind": "composite", "of": limits},
            "undecided": -1.0,
        },
        {"function": f"{__name__}:said"},
    )  # fmt: skip
    assert length == [1.0, 1.5, -0.5]
    # One word is worth no more than the threshold, so that shortness is not optimised beyond it.
    assert limited == pytest.approx([2 + 1 / 3, 2 + 0.5, 0.5])
    assert own == [11.0, 5.0, 4.0]


def test_what_is_not_decided_is_worth_no_more_than_what_is_wrong() -> None:
    assert rewarded(["7", "?"], {"shape": {"kind": "laser", "target": 2}}) == [[-0.5, -0.5]]
    with pytest.raises(RecipeError, match="not deciding would pay"):
        rewarded(["7"], {"undecided": 0.1})


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        ("final", [1, 1, 0, 0, None]),
        ("bonus", [1, 11, -10, 0, -10]),  # r2 + 10 (r2 - r1)
        ("corrected", [1, 1.5, 0, 0, None]),
        ("change", [0, 1, -1, 0, -1]),
    ],
)
def test_rewards_of_two_turns(reward: Any, wanted: list[float | None]) -> None:
    firsts, finals = ["16", "7", "16", "7", "7"], ["16", "16", "7", "7", "?"]
    correction = SelfCorrection(reward=reward, allow_hackable=True)
    assert rewarded(finals, firsts=firsts, correction=correction) == [wanted]


def test_a_first_turn_that_is_not_decided_is_neither_right_nor_wrong() -> None:
    assert rewarded(["16"], firsts=["?"], correction=SelfCorrection(reward="bonus")) == [[None]]
    assert rewarded(["16"], firsts=["?"], correction=SelfCorrection()) == [[1.0]]


@pytest.mark.parametrize("reward", ["corrected", "change"])
def test_rewards_that_can_be_hacked_are_refused(reward: Any) -> None:
    with pytest.raises(RecipeError, match=r"pays for a wrong first answer.*allow_hackable"):
        SelfCorrection(reward=reward)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "rloo", "self_correction": {}}, "self_correction: TRL's RLOO has one number"),
        ({"algorithm": "rloo", "process_reward": {}}, "process_reward: TRL's RLOO has one number"),
        ({"process_reward": {}, "beta": 0.1}, "not used with beta"),
        ({"process_reward": {}, "rewards": [{}]}, "not used with rewards"),
        ({"process_reward": {"online": False}}, "does not learn is needed"),
        ({"rewards": [{"function": "a:b", "shape": {"kind": "kimi"}}]}, "a function stands beside"),
        ({"rewards": [{"scores": {"a": {}}}]}, "no shape that reads them"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, msgspec.ValidationError), match=message):
        msgspec.convert({**BASE, **changes}, Policy)


def test_the_folders_of_the_process_model_count_for_what_a_training_is() -> None:
    options = Policy(**BASE, process_reward=ImplicitReward(model="p"))
    assert [getattr(options, name) for name in options.models] == ["m", "p", None]


class Chat:
    """A tokenizer whose tokens are characters, with | as the end of an answer."""

    eos_token, eos_token_id = "|", ord("|")

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[ord(c) for c in text])

    def apply_chat_template(self, messages: list[dict[str, str]], **how: Any) -> str:
        return "".join(f"<{m['role'][0]}>{m['content']}|\n" for m in messages) + "<a>"

    def batch_decode(self, ids: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(map(chr, one)).rstrip("|") for one in ids]


def test_of_two_turns_only_the_models_own_tokens_are_trained() -> None:
    tokenizer, replies = Chat(), [["7|", "cut"], ["16|", "8|"]]
    seen: list[list[str]] = []

    def generate(prompt_ids: list[list[int]], *_: Any) -> tuple[list[list[int]], None]:
        seen.append(["".join(map(chr, ids)) for ids in prompt_ids])
        return [[ord(c) for c in reply] for reply in replies[len(seen) - 1]], None

    trainer = SimpleNamespace(
        _tokenize_prompts=lambda prompts: ([[ord(c) for c in "<u>q|\n<a>"] for _ in prompts], None, {}),
        _generate_single_turn=generate,
        num_generations=2,
    )
    made = rollout(SelfCorrection(instruction="sure"), tokenizer)(["q", "q"], trainer)
    texts = ["".join(map(chr, ids)) for ids in made["completion_ids"]]
    # An answer that was cut off is ended, by a token without loss.
    assert texts == ["7|\n<u>sure|\n<a>16|", "cut|\n<u>sure|\n<a>8|"]
    assert seen[1] == [f"<u>q|\n<a>{text[: text.index('<a>') + 3]}" for text in texts]
    marks = zip(texts, made["env_mask"], strict=True)
    trained = ["".join(c if m else "." for c, m in zip(t, mask, strict=True)) for t, mask in marks]
    assert trained == ["7|.............16|", "cut..............8|"]
    assert (made["first_answers"], made["final_answers"]) == (["7", "cut"], ["16", "8"])


def test_a_check_asks_again_only_what_it_calls_wrong() -> None:
    tokenizer, replies = Chat(), [["7|", "8|", "9|"], ["bad|", "fine|", "not bad"], ["6|", "5|"]]
    asked: list[int] = []

    def generate(prompt_ids: list[list[int]], *_: Any) -> tuple[list[list[int]], None]:
        asked.append(len(prompt_ids))
        return [[ord(c) for c in reply] for reply in replies[len(asked) - 1]], None

    trainer = SimpleNamespace(
        _tokenize_prompts=lambda prompts: ([[ord("q")] for _ in prompts], None, {}),
        _generate_single_turn=generate,
        num_generations=3,
        accelerator=SimpleNamespace(num_processes=1),
    )
    correction = SelfCorrection(instruction="sure", wrong="bad", again="more")
    made = rollout(correction, tokenizer)(["q"] * 3, trainer)
    assert asked == [3, 3, 2]
    texts = ["".join(map(chr, ids)) for ids in made["completion_ids"]]
    check, more = "|\n<u>sure|\n<a>", "|\n<u>more|\n<a>"
    assert texts == [f"7{check}bad{more}6|", f"8{check}fine|", f"9{check}not bad{more}5|"]
    marks = zip(texts, made["env_mask"], strict=True)
    trained = ["".join(c for c, m in zip(t, mask, strict=True) if m) for t, mask in marks]
    assert trained == ["7|bad|6|", "8|fine|", "9|not bad5|"]
    assert made["final_answers"] == ["6", "8", "5"] and made["first_answers"] == ["7", "8", "9"]


# ---- trainings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six problems and one that is too long, and all trainings of one start of the program."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and trl")
    where = tmp_path_factory.mktemp("policy")
    rows = [problem(i, f"{i} blue") for i in range(6)]
    rows.insert(2, problem(9, "0123 " * 30))
    (where / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TRAIN}", "HF_HUB_OFFLINE": "1"}
    command = [python, str(TRAIN / "tiny_policy.py"), str(where)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=550, check=False, env={**env, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return where


def problem(number: int, text: str) -> dict[str, Any]:
    asked = [{"role": "user", "content": text}]
    return {"id": f"p{number}", "prompt": asked, "problem": text, "solution": str(number), "level": number}


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    trials: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return trials


def groups(trial: dict[str, Any]) -> list[tuple[list[float | None], list[float]]]:
    """The rewards and advantages of all groups of four, which TRL has given both in order."""
    made = []
    for batch in trial["batches"]:
        rewards = [row[0] for row in batch["rewards"]]
        made += [(rewards[at : at + 4], batch["advantages"][at : at + 4]) for at in range(0, len(rewards), 4)]
    return made


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["grpo", "none", "rloo"])
def test_trl_gives_the_advantages_of_the_closed_forms(found: dict[str, Any], name: str) -> None:
    moved = 0
    for rewards, advantages in groups(found[name]):
        decided = [reward for reward in rewards if reward is not None]
        for reward, advantage in zip(rewards, advantages, strict=True):
            if reward is None:
                wanted = 0.0
            elif name == "rloo":
                others = len(decided) - 1
                wanted = reward - (sum(decided) - reward) / others if others else 0.0
            else:
                wanted = reward - statistics.fmean(decided)
                if name == "grpo":
                    wanted /= statistics.stdev(decided) + 1e-4
            assert advantage == pytest.approx(wanted, abs=1e-5)
            moved += abs(wanted) > 0.01
    assert moved > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_undecided_answers_are_left_out_of_real_groups(found: dict[str, Any]) -> None:
    rewards = [reward for group, _ in groups(found["none"]) for reward in group]
    assert {None, 0.0, 1.0} == set(rewards)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["grpo", "rloo", "prime"])
def test_a_killed_training_goes_on_with_the_same_losses_and_weights(found: dict[str, Any], name: str) -> None:
    whole, resumed = found[name], found[f"{name}-killed"]
    assert resumed["log"] == whole["log"] and resumed["weights"] == whole["weights"]
    assert len(resumed["batches"]) < len(whole["batches"])
    losses = [entry["loss"] for entry in whole["log"]]
    assert name == "rloo" or len(set(losses)) > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkpoints_are_only_where_new_answers_are_drawn(found: dict[str, Any]) -> None:
    # Asked for after every step, of which two are on the same answers.
    kept = [name for name in found["grpo-killed"]["left"] if name.startswith("checkpoint-")]
    assert kept == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_columns_of_a_row_reach_a_function_of_ones_own(found: dict[str, Any]) -> None:
    calls = found["grpo"]["calls"]
    assert calls and all(call["solution"] == [str(level) for level in call["level"]] for call in calls)
    assert {level for call in calls for level in call["level"]} == set(range(6))
    assert found["grpo"]["metrics"]["rows_too_long"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_turn_is_trained_and_the_users_words_between_are_not(found: dict[str, Any]) -> None:
    for batch, call in zip(found["turns"]["batches"], found["turns"]["calls"], strict=True):
        for ids, trained, final in zip(
            batch["completion_ids"], batch["tool_mask"], call["completion_ids"], strict=True
        ):
            runs = "".join(map(str, trained)).split("0")
            assert len([run for run in runs if run]) == 2, "one turn, the user, another turn (and padding)"
            first = trained.index(0)
            second = len(trained) - trained[::-1].index(0)
            assert ids[second : second + len(final)] == final and first <= 6 and len(final) <= 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_process_model_learns_from_outcomes_and_rewards_every_token(found: dict[str, Any]) -> None:
    [first, *_] = found["prime"]["process"]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5), "before it has learnt, log 2"
    assert any(later["loss"] != pytest.approx(0.693147, abs=1e-3) for later in found["prime"]["process"])
    for made in found["prime"]["process"]:
        # The cross-entropy of sigma(beta * log-ratio) with the outcome, before the step: PRIME's update.
        logits = [
            0.05 * ratio * (1 if outcome else -1)
            for ratio, outcome in zip(made["ratios"], made["outcomes"], strict=True)
            if outcome is not None
        ]
        wanted = statistics.fmean(math.log1p(math.exp(-logit)) for logit in logits) if logits else None
        assert made["loss"] == pytest.approx(wanted, abs=1e-5)
        for outcome, row, mask in zip(made["outcomes"], made["advantages"], made["mask"], strict=True):
            assert all(
                number == 0 for number, real in zip(row, mask, strict=True) if not real or outcome is None
            )
    assert len({number for number in first["advantages"][0] if number}) > 1, "a number for each token"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_needs_no_setting_and_one_of_several_rewards_adds_them_up(found: dict[str, Any]) -> None:
    assert found["plain"]["metrics"]["steps"] == 1
    [batch] = found["shaped"]["batches"]
    laser = {row[0] for row in batch["rewards"]}
    assert laser <= {-0.5, 1.0, 1.5} and len(laser) > 1
    total = statistics.fmean(row[0] + 0.5 * row[1] for row in batch["rewards"])
    assert found["shaped"]["metrics"]["measures"]["reward"] == pytest.approx(total, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_errors_come_before_the_first_step(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert "40 problems a step" in errors["few"] and "--set batch=6" in errors["few"]
    assert "all 7 prompts are longer than 5 tokens" in errors["long"]
    assert "has no chat template" in errors["silent"]
    assert "does not end a turn with '<|im_end|>'" in errors["endless"]
    assert "row 1: the file holds pairs" in errors["pairs"] and "train preference" in errors["pairs"]
    assert "a second turn needs messages" in errors["texts"]
    assert "several verifiers: bleu, math" in errors["two"]
    assert "process_model: " in errors["prm"] and "not deciding would pay" in errors["pays"]
