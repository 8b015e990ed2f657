"""A judge whose instructions are a text of its own, such as ``refine_judge_prompt`` writes."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.errors import InputError, RecipeError
from gristmill.core.prompts import require
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import bounds, needs_of, quoted
from gristmill.verifiers.judges.content import judged_part
from gristmill.verifiers.judges.judge import RIGHT, SYSTEM, WRONG
from gristmill.verifiers.raters.base import read_rows

_INSTRUCTED = Message(
    "user",
    "{problem}\n\n{reference}\n\n{response}\n\nJudge whether RESPONSE is a right answer to PROBLEM, by these "
    "instructions:\n{instructions}\n\n{answer_with}",
)


class JudgePrompt(Struct, frozen=True):
    """Instructions for a judge, with the accuracy that they have reached (see ``refine_judge_prompt``).

    ``chosen`` and ``tested`` are accuracies on the rows that decided and on rows that nothing was chosen by,
    ``first_chosen`` and ``first_tested`` those of the instructions that were begun with.
    """

    id: str
    instructions: str
    begun_with: str = ""
    chosen: float | None = None
    tested: float | None = None
    first_chosen: float | None = None
    first_tested: float | None = None
    accepted: int = 0
    tried: int = 0


class InstructedJudge(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether an answer is right, by instructions in words; with a reference it is shown."""

    instructions: str = ""
    """The instructions, unless ``file`` has them."""
    file: str | None = None
    """A file of the export ``judge-prompts``, whose instructions are used."""
    name: str | None = None
    """The id of the row of ``file``; ``null`` if it has only one."""
    asking: Asking = Asking()
    """How it is asked."""
    prompt: tuple[Message, ...] = (SYSTEM, _INSTRUCTED)
    """The prompt, with ``{problem}``, ``{reference}``, ``{response}``, ``{instructions}``, ``{answer_with}``
    and ``{fence}``."""

    def __post_init__(self) -> None:
        known = ("problem", "reference", "fence")
        require("prompt", self.prompt, "response", "instructions", "answer_with", known=known)
        if not self.text.strip():
            raise RecipeError("instructed_judge has no instructions.", remedy="Set instructions, or file.")

    @property
    def text(self) -> str:
        """The instructions. ``InputError`` for a file without them."""
        return self.instructions if self.file is None else read_prompt(self.file, self.name).instructions

    @property
    def needs(self) -> frozenset[Ability]:
        """Token probabilities, where they alone are to be read."""
        return needs_of(self.asking.read)

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question."""
        asking = self.asking
        tokens = asking.sampling.max_tokens
        return bounds(1, asking.votes, asking.read, tokens, problem, completion, reference, self.text)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer; the score is the share of ``correct``."""
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return shown
        values = quoted(seed, problem=problem, reference=reference or None, response=shown)
        values["instructions"] = self.text
        ballot = await self.asking.choose(self.prompt, values, (RIGHT, WRONG), engine=engine, seed=seed)
        share, rule = ballot.share(RIGHT), f"instructed judge: {ballot.way}"
        if share is None or share == 0.5:
            return unparseable(rule, ballot.detail)
        said = RIGHT if share > 0.5 else WRONG
        return decided(share > 0.5, rule=rule, score=share, extracted=said, detail=ballot.detail)


@lru_cache(maxsize=8)
def read_prompt(file: str, name: str | None) -> JudgePrompt:
    """The row ``name`` of a file of judge prompts, or its only one. ``InputError`` where there is none."""
    rows = read_rows(file, JudgePrompt, '{"id": "...", "instructions": "..."}')
    found = [row for row in rows if name in (None, row.id)]
    if len(found) != 1:
        ids = ", ".join(row.id for row in rows) or "none"
        raise InputError(
            f"{len(found)} rows fit the name {name!r}, not one.",
            path=file,
            remedy=f"Set name to one of: {ids}.",
        )
    return found[0]
