"""Refinements of wrong solutions, from rollouts that are there: of the whole, and from the first error on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability
from gristmill.core.prompts import RowValues, fill, require, row_places
from gristmill.core.records import Demonstration, Judged, Turn
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import ValuedSolution
from gristmill.synth.step_values.rollouts import begun
from gristmill.verifiers.rules.arithmetic import sound

Refinement = Literal["global", "local"]
_DRAFT = "{problem}\n\nHere is the draft of a solution:\n\n{draft}\n\n"
_PLACES = ("problem", "draft", "number", "step")


class Refinements(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes rows that show a wrong solution and train a right one (GLoRe, arXiv 2402.10963, section 4).

    ``global``: problem and draft are shown, and a right solution of the same problem is trained. ``local``:
    a critique is shown too, which names the first wrong step, and what is trained keeps the steps before it.
    The right solutions are rollouts: from the question, or from the prefix before the first error. ``kind``
    of the row says which it is. The wording is this project's own.

    A solution that is right, or whose verdict is not decided, is rejected, and so is a kind for which no
    right rollout is there, or whose error the rollouts did not locate.
    """

    reads: ClassVar[type[Struct]] = ValuedSolution
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    kinds: Annotated[tuple[Refinement, ...], Meta(min_length=1)] = ("global", "local")
    """Which rows are made of each wrong solution."""
    most: Annotated[int, Meta(ge=1)] = 1
    """The most rows of each kind; further ones have further right rollouts, each with a text of its own."""
    sound_arithmetic: bool = True
    """Whether a right rollout with a false equation, its prefix included, is left out: it is right by luck.
    For plain exact arithmetic; see ``tree_traces``."""
    prompt: str = _DRAFT + "Write the solution anew, and correct what is wrong in it."
    """The user turn of ``global``, with the places ``{problem}``, ``{draft}`` and the row's columns."""
    local_prompt: str = (
        _DRAFT + "The first mistake is in step {number}: {step}\n\n"
        "Write the solution anew. Keep the steps before it."
    )
    """The user turn of ``local``, with the places ``{number}`` (from 1) and ``{step}``, the text of the first
    wrong step, too."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "problem", "draft")
        require("local_prompt", self.local_prompt, "problem", "draft", "number")

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row."""
        return row_places(_PLACES, prompt=self.prompt, local_prompt=self.local_prompt)

    async def __call__(self, record: ValuedSolution, context: Context) -> Sequence[Demonstration | Rejection]:
        """The rows, with a ``Rejection`` for each kind that could not be made."""
        if not record.verdict.decided or record.verdict.correct:
            return [
                Rejection(record.id, "nothing to refine", f"its verdict is {record.verdict.outcome.value}")
            ]
        return [row for kind in self.kinds for row in self._rows(record, kind)]

    def estimate(self, record: ValuedSolution) -> Estimate:
        """Nothing: the rollouts are there."""
        return Estimate(0, 0, 0, 0, rows_max=self.most * len(self.kinds))

    def _rows(self, record: ValuedSolution, kind: Refinement) -> Iterator[Demonstration | Rejection]:
        error = record.first_error
        kept, drawn, shown = 0, record.start, {"number": "", "step": ""}
        if kind == "local":
            if error is None or error < 0:
                yield Rejection(f"{record.id}/{kind}", "local: the first error is not located")
                return
            kept, shown = error, {"number": str(error + 1), "step": record.steps[error].text.strip()}
            drawn = record.steps[error - 1].rollouts if error else record.start
        texts = _right("".join(step.text for step in record.steps[:kept]), drawn)
        texts = [text for text in texts if not self.sound_arithmetic or sound(text)]
        if not texts:
            yield Rejection(
                f"{record.id}/{kind}", f"{kind}: no right rollout to refine it to", f"{len(drawn)} from there"
            )
        draft = "".join(step.text for step in record.steps)
        prompt = self.local_prompt if kind == "local" else self.prompt
        asked = fill(prompt, RowValues(record), problem=record.problem, draft=draft, **shown)
        for i, text in enumerate(texts[: self.most]):
            turns = (Turn("user", asked, False), Turn("assistant", text, True))
            name = f"{record.id}/{kind}" + (f"/{i}" if self.most > 1 else "")
            yield Demonstration(name, record.problem_id, record.problem, record.answer, kind, turns)


def _right(prefix: str, rollouts: Sequence[Judged]) -> list[str]:
    """The different whole texts of right rollouts that continue ``prefix``, in their order."""
    return list(dict.fromkeys(begun(prefix) + r.completion.text for r in rollouts if r.verdict.correct))
