"""``profile``: how much of what a user is like a model has learned in a dialogue (RLPA, arXiv 2505.15456)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill, require
from gristmill.core.records import Score
from gristmill.core.stages import Context, Estimate
from gristmill.synth.scorers.base import Answered, Scorer, tokens_of, unscored
from gristmill.verifiers.judges.base import quoted
from gristmill.verifiers.judges.replies import Unread, parsed

_CALL = 40
_ASK = (
    "{dialogue}\n\nWhat does DIALOGUE show about its user? Answer with one JSON object and nothing else, "
    "with the keys {slots}. Give each value as text, in few words; leave out what DIALOGUE does not show."
)


def profile_f1(told: Mapping[str, str], true: Mapping[str, str]) -> float:
    """F1 of slots: 2 right / (told + true), where a slot is right if its value is the true one in other case
    and punctuation. 0 where nothing is told. ``ValueError`` without true slots."""
    from rapidfuzz import utils

    if not true:
        raise ValueError("there are no true slots")

    def plain(text: str) -> str:
        return " ".join(str(utils.default_process(text)).split())

    right = sum(plain(value) == plain(true[slot]) for slot, value in told.items() if slot in true)
    return 2 * right / (len(told) + len(true))


class ProfileMatch(Scorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The profile reward of RLPA: F1 of what a model tells of the user after the dialogue against what the
    user was told to be.

    The row's column has the true profile, an object of texts by slot, which prompts can name too. The paper
    has the assistant write its profile in every turn; here it is asked once, after the dialogue.
    """

    column: str = "profile"
    """The column with the true profile."""
    engine: str | None = None
    """The name of the engine that is asked; ``null`` is the stage's own. Name the assistant's to measure what
    it has understood."""
    prompt: str = _ASK
    """What is asked, with ``{dialogue}``, ``{slots}`` and ``{fence}``; the dialogue is quoted."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=512)
    """How it is sampled."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "dialogue", "slots", known=("fence",))

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is asked: to chat."""
        return frozenset({Ability.CHAT}) if self.engine is None else frozenset()

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engine that is named."""
        return {} if self.engine is None else {self.engine: frozenset({Ability.CHAT})}

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The F1, or no value where the reply is not such an object. ``RowRejected`` for a row without a
        profile."""
        true = answer.row.get(self.column)
        if not isinstance(true, Mapping) or not true:
            raise RowRejected(
                f"no profile in {self.column!r}", "it must be an object with a text for each slot"
            )
        said = [f"{m.role}: {m.content}" for m in answer.messages if m.role in ("user", "assistant")]
        seed = context.seed_for(answer.id, _CALL)
        texts = quoted(seed, dialogue="\n\n".join([*said, f"assistant: {answer.completion}"]))
        asked = (Message("user", fill(self.prompt, **texts, slots=", ".join(sorted(true)))),)
        [reply] = await context.named(self.engine).generate(Request(asked, self.sampling, seed))
        told = parsed(reply, lambda text: msgspec.json.decode(text, type=dict[str, str | None]))
        if isinstance(told, Unread):
            return [unscored(score, told.why, reply.text[:500])]
        known = {slot: str(value) for slot, value in true.items()}
        return [Score(score, profile_f1({k: v for k, v in told.items() if v}, known))]

    def estimate(self, answer: Answered) -> Estimate:
        """One reply."""
        return Estimate(1, 1, tokens_of(answer) + len(self.prompt) // 4, self.sampling.max_tokens, rows_max=1)
