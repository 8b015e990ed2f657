"""Self-correction: the model answers, is asked to look again, and answers again, at once or after a check."""

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
    """A second turn for every answer, and with ``wrong`` a third for those that the model calls wrong."""

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
    wrong: Annotated[str, Meta(min_length=1)] | None = None
    """How a second turn ends that calls the answer wrong, as ``[VERIFY] wrong.`` does. With it the second
    turn is a check: after this ending the model is asked ``again``, and after any other the first answer is
    the final one (self-rewarding correction, arXiv 2502.19613). ``null``: the second turn is the final
    answer."""
    again: Annotated[str, Meta(min_length=1)] = (
        "You judged your answer wrong. Find the error, solve the problem again, and give your final answer."
    )
    """``wrong``: what the user says then. Its tokens carry no loss."""
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
    """TRL's ``rollout_func`` for two or three turns. ``env_mask`` is 1 for tokens that the model said.

    Raises ``RecipeError`` where the chat template does not end a turn with the token that ends an answer.
    """
    look, again = _between(correction.instruction, tokenizer), _between(correction.again, tokenizer)
    end, wrong = tokenizer.eos_token_id, correction.wrong

    def turns(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        # The trainer's own generation, which knows its devices and settings. TRL's tools and environments
        # also make further turns, but give these the role of a tool, which many templates do not have.
        def said(so_far: list[list[int]]) -> list[list[int]]:
            return list(trainer._generate_single_turn(so_far, None, {}, trainer.num_generations)[0])

        def texts(ids: list[list[int]]) -> list[str]:
            return list(tokenizer.batch_decode(ids, skip_special_tokens=True))

        def asked(ids: list[int], question: list[int]) -> list[int]:
            # An answer that was cut off is ended for the model, by a token that is not trained.
            return [*([] if ids and ids[-1] == end else [end]), *question]

        prompt_ids, *_ = trainer._tokenize_prompts(prompts)
        firsts = said(prompt_ids)
        whole = [[*f, *asked(f, look)] for f in firsts]
        seconds = said([[*p, *w] for p, w in zip(prompt_ids, whole, strict=True)])
        marks = [
            [1] * len(f) + [0] * (len(w) - len(f)) + [1] * len(s)
            for f, w, s in zip(firsts, whole, seconds, strict=True)
        ]
        whole = [[*w, *s] for w, s in zip(whole, seconds, strict=True)]
        finals = seconds
        if wrong is not None:
            checks = texts(seconds)
            doubted = [i for i, check in enumerate(checks) if check.rstrip().endswith(wrong)]
            # Several processes must generate equally often: there every answer is asked for again.
            who = doubted if trainer.accelerator.num_processes == 1 else range(len(checks))
            asks = {i: asked(seconds[i], again) for i in who}
            thirds = said([[*prompt_ids[i], *whole[i], *ask] for i, ask in asks.items()]) if asks else []
            finals = list(firsts)
            for (i, ask), third in zip(asks.items(), thirds, strict=True):
                if i in doubted:
                    whole[i] += [*ask, *third]
                    marks[i] += [0] * len(ask) + [1] * len(third)
                    finals[i] = third
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": whole,
            "logprobs": None,
            "env_mask": marks,
            "first_answers": texts(firsts),
            "final_answers": texts(finals),
            "final_ids": finals,
        }

    return turns


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
