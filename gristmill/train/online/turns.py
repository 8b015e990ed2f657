"""Self-correction in two turns: the model answers, is asked to look again, and answers again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.shaping import Attempt, Rewards, Shape
from gristmill.filters.rewards import TwoTurn

FIRST = "first_turn"
"""The column with what the verifier gave the first turn."""
_PLACE = "THE-FIRST-ANSWER"


class Correction(Shape, frozen=True, kw_only=True, tag="correction"):
    """Rewards of a second turn that are known to be hacked, to compare others with.

    ``corrected`` is 1.5 for a wrong first and a right second answer, 1 for a right second answer otherwise,
    else 0: with it first answers became wrong on purpose (arXiv 2502.19613). ``change`` is r2 - r1 alone,
    which is greatest for the same behaviour.
    """

    grouped: ClassVar[Any] = False

    first: str = FIRST
    """The score of the first turn."""
    pays: Literal["corrected", "change"] = "corrected"
    """Which of the two."""

    @property
    def lowest(self) -> float:
        """A wrong second answer, or a right one that became wrong."""
        return 0.0 if self.pays == "corrected" else -1.0

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number for each decided answer whose first turn is decided."""
        return [[self._one(answer) for answer in group] for group in groups]

    def _one(self, answer: Attempt) -> float | None:
        first = answer.values.get(self.first)
        if answer.right is None or first is None:
            return None
        if self.pays == "change":
            return answer.right - first
        return float(answer.right) * (1.5 if first < 0.5 else 1.0)


class SelfCorrection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second turn for every answer."""

    instruction: Annotated[str, Meta(min_length=1)] = (
        "There might be an error in your answer. Check it, correct it if it is wrong, "
        "and give your final answer."
    )
    """What the user says after the first answer. Its tokens carry no loss."""
    reward: Literal["final", "bonus", "corrected", "change"] = "final"
    """``final``: the verdict on the second answer, 0 or 1 (arXiv 2502.19613). ``bonus``: SCoRe's
    r2 + alpha (r2 - r1) (arXiv 2409.12917). ``corrected`` (1.5 for wrong then right, 1 for right, else 0) and
    ``change`` (r2 - r1) can be hacked by a wrong first answer on purpose."""
    alpha: Annotated[float, Meta(ge=0)] = 10.0
    """``bonus``: what the change counts. SCoRe's value is 10."""
    allow_hackable: bool = False
    """Whether a reward that can be hacked may be used, to compare."""

    def __post_init__(self) -> None:
        if self.reward in ("corrected", "change") and not self.allow_hackable:
            raise RecipeError(
                f"self_correction.reward: {self.reward!r} pays for a wrong first answer: a model learns to "
                "give one on purpose.",
                remedy="Use 'final' or 'bonus', or say allow_hackable: true to compare them.",
            )

    @property
    def shape(self) -> Shape | None:
        """What makes the reward of both verdicts; ``None`` where the second is the reward."""
        if self.reward == "final":
            return None
        if self.reward == "bonus":
            return TwoTurn(first=FIRST, alpha=self.alpha)
        return Correction(pays=self.reward)


def rollout(correction: SelfCorrection, tokenizer: Any) -> Callable[[list[Any], Any], dict[str, Any]]:
    """TRL's ``rollout_func`` for two turns. ``env_mask`` is 1 for tokens that the model said.

    Raises ``RecipeError`` where the chat template does not end a turn with the token that ends an answer.
    """
    between = _between(correction.instruction, tokenizer)
    end = tokenizer.eos_token_id

    def two_turns(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        # The trainer's own generation, which knows its devices and settings. TRL's tools and environments
        # also make further turns, but give these the role of a tool, which many templates do not have.
        prompt_ids, *_ = trainer._tokenize_prompts(prompts)
        firsts, _ = trainer._generate_single_turn(prompt_ids, None, {}, trainer.num_generations)
        # A first answer that was cut off is ended for the model, by a token that is not trained.
        asked = [[*([] if ids and ids[-1] == end else [end]), *between] for ids in firsts]
        so_far = [[*p, *f, *a] for p, f, a in zip(prompt_ids, firsts, asked, strict=True)]
        seconds, _ = trainer._generate_single_turn(so_far, None, {}, trainer.num_generations)
        turns = list(zip(firsts, asked, seconds, strict=True))
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [[*f, *a, *s] for f, a, s in turns],
            "logprobs": None,
            "env_mask": [[1] * len(f) + [0] * len(a) + [1] * len(s) for f, a, s in turns],
            "first_answers": tokenizer.batch_decode(firsts, skip_special_tokens=True),
            "final_answers": tokenizer.batch_decode(seconds, skip_special_tokens=True),
            "final_ids": seconds,
        }

    return two_turns


def _between(instruction: str, tokenizer: Any) -> list[int]:
    """The tokens between the end of an answer and the start of the next."""
    turns = [("user", "?"), ("assistant", _PLACE), ("user", instruction)]
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": said} for role, said in turns], tokenize=False, add_generation_prompt=True
    )
    behind = text.rpartition(_PLACE)[2]
    before, end, rest = behind.partition(tokenizer.eos_token)
    if not end or before.strip():
        raise RecipeError(
            f"the chat template does not end a turn with {tokenizer.eos_token!r}, the token with which the "
            "model ends an answer.",
            remedy="Use a model whose template does, or train without self_correction.",
        )
    found: list[int] = tokenizer(rest, add_special_tokens=False).input_ids
    return found
