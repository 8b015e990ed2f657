"""``masked_consistency``: can a model fill in what is hidden of a sample?

After DetectGPT-SC (arXiv 2310.14479), of which the abstract was read: a model's own text is completed with
the same reasoning when parts of it are masked, other text is not. What is masked, the prompt and the score
are the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.prompts import fill, require, row_places
from gristmill.core.records import Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, RowStage, derive_seed
from gristmill.filters.order import seeded_order
from gristmill.synth.drawing import CHAT, JUDGE_CALL
from gristmill.synth.scoring import cut_off
from gristmill.verifiers.judges.base import bounds, draw, quoted
from gristmill.verifiers.rules.votes import group_texts

_WORD = {"words": re.compile(r"[^\W\d_]{2,}"), "numbers": re.compile(r"\d+(?:[.,]\d+)*")}
_LINE = re.compile(r"\W{0,8}(\d{1,4})\W{0,8}?[:.)=](.+)")
_LONGEST = 200
"""Characters of a line that are read."""
_PROMPT = """Here is a problem and a response to it, in which {count} words or numbers are hidden, each behind
a mark such as [[1]].

{problem}

{response}

Say what is hidden. Reply with one line for each mark and nothing else: its number, a colon, and the hidden
word or number."""
_NOTHING = Estimate(0, 0, 0, 0, rows_max=1)


class MaskedText(Struct, frozen=True):
    """A text with marks [[1]], [[2]] ... in place of ``hidden``, in order."""

    text: str
    hidden: tuple[str, ...]


def mask(text: str, share: float, what: Literal["words", "numbers"], seed: int) -> MaskedText:
    """``text`` with the ``share`` (0 to 1) of its words or numbers hidden that a seeded hash chooses, one at
    least; none where it has none. The hash is of the words' places."""
    found = list(_WORD[what].finditer(text))
    if not found:
        return MaskedText(text, ())
    most = max(1, round(share * len(found)))
    chosen = sorted(seeded_order(seed, [str(m.start()) for m in found])[:most])
    for number, i in reversed(list(enumerate(chosen, 1))):
        text = text[: found[i].start()] + f"[[{number}]]" + text[found[i].end() :]
    return MaskedText(text, tuple(found[i][0] for i in chosen))


def recovered(answer: Completion, hidden: Sequence[str]) -> float | None:
    """The share of the ``hidden`` words that a finished answer names at their marks; a mark that it leaves
    out is not recovered. ``None`` where not one line can be read."""
    if not answer.finished:
        return None
    lines = [m for line in answer.text.splitlines() if (m := _LINE.match(line.strip()[:_LONGEST]))]
    said = {int(m[1]): m[2].strip(" \"'`*[]") for m in lines if 1 <= int(m[1]) <= len(hidden)}
    if not said:
        return None
    right = sum(
        len(group_texts([word, said[number]])) == 1 for number, word in enumerate(hidden, 1) if number in said
    )
    return right / len(hidden)


class MaskedConsistency(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hides parts of each sample, has the model fill them in, and scores how much of it comes back (after
    DetectGPT-SC, arXiv 2310.14479).

    The score ``masked_consistency`` is the mean share of hidden words that are recovered, 0 to 1, null where
    the sample was cut off, has nothing to hide, or no answer can be read. No sample is rejected.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = CHAT

    share: Annotated[float, Meta(gt=0, le=0.9)] = 0.15
    """The share of words or numbers that is hidden."""
    hide: Literal["words", "numbers"] = "words"
    """What is hidden: words of two letters or more, or numbers."""
    masks: Annotated[int, Meta(ge=1, le=100)] = 1
    """How often, each time with other places hidden."""
    prompt: str = _PROMPT
    """The prompt, with the places ``{problem}``, ``{response}`` and ``{count}``."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=512)
    """How the answers are sampled."""

    def __post_init__(self) -> None:
        require("masked_consistency.prompt", self.prompt, "response", known=("problem", "count"))

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompt wants of a row, by option."""
        return row_places(("problem", "response", "count"), prompt=self.prompt)

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Sampled]:
        """The sample with its score."""
        shares: list[float] = []
        for i in range(self.masks) if cut_off(sample) is None else ():
            seed = derive_seed(context.seed_for(sample.problem_id, JUDGE_CALL), sample.completion, i)
            masked = mask(sample.completion, self.share, self.hide, seed)
            if not masked.hidden:
                break
            quotes = quoted(seed, problem=sample.problem, response=masked.text)
            text = fill(self.prompt, **quotes, count=str(len(masked.hidden)))
            request = Request((Message("user", text),), self.sampling, seed)
            [answer] = await draw(context.engine, request, 1)
            share = recovered(answer, masked.hidden)
            shares += [] if share is None else [share]
        value = sum(shares) / len(shares) if shares else None
        return [with_score(sample, Score("masked_consistency", value))]

    def estimate(self, sample: Sampled) -> Estimate:
        """A request for each time that something is hidden."""
        if cut_off(sample) is not None:
            return _NOTHING
        cost = bounds(self.masks, 1, "text", self.sampling.max_tokens, sample.problem, sample.completion)
        return replace(cost, completions_min=0, rows_max=1)
