"""``evidence_rewrites``: answers rewritten so that they use the evidence, and paired with the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fields, require, row_places
from gristmill.core.records import Pair, Sampled, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.rag.metrics import read_answer, references_of
from gristmill.synth.rag_methods.base import WRITER, asked_text, held, numbered, own_ids
from gristmill.synth.refusal.passages import holds
from gristmill.verifiers.evidence import read_references
from gristmill.verifiers.grounding.claims import content, split
from gristmill.verifiers.grounding.verifier import Grounding
from gristmill.verifiers.judges.base import bounds, quoted

USE = "evidence_use"
TOLD = 0.5
"""The least share of a sentence's own words that an answer has which tells that sentence."""
_PROMPT = Message(
    "user",
    "{passages}\n\n{problem}\n\n{response}\n\nRESPONSE answers PROBLEM without making enough of PASSAGES. "
    "Rewrite it: say what in PROBLEM the passages bear out or refute, tell the facts that show it and cite "
    "each by its number, such as [2]; leave out what no passage says; stay polite and be "
    "brief. Write the rewritten response alone.",
)
_CALL = 3_500_000


class EvidenceUse(NamedTuple):
    """How an answer uses evidence: the share of its claims that are not unsupported, the share of the
    passages of which it tells a sentence, and their harmonic mean."""

    sound: float
    told: float

    @property
    def value(self) -> float:
        """In [0, 1]: 0 for an answer that tells nothing, and for one of which nothing is supported."""
        return 2 * self.sound * self.told / (self.sound + self.told) if self.sound + self.told else 0.0


def evidence_use(text: str, found: Sequence[dict[str, Any]], question: str, rules: Grounding) -> EvidenceUse:
    """How ``text`` uses the passages ``found``. It tells one if it has half of the words of one of its
    sentences, other than those of the question and of the other passages.

    This project's own stand-in for the learned evidence rewards of RARG (arXiv 2403.14952) and MisinfoCorrect
    (arXiv 2303.06433). ``ValueError`` for a text that cannot be read.
    """
    read = read_answer(text, rules(text, msgspec.json.encode(list(found)).decode()), ())
    sound = 1 - read.unsupported / read.claims if read.claims else 0.0
    said, asked = set(content(text)), set(content(question))
    bodies = [str(passage.get("text") or "") for passage in found]
    told = 0
    for number, body in enumerate(bodies):
        elsewhere = asked.union(*(content(other) for n, other in enumerate(bodies) if n != number))
        sentences = [set(content(one.text)) for one in split(body)]
        # What only this passage says, as long as it says anything alone.
        own = [words - elsewhere for words in sentences]
        own = own if any(own) else [words - asked for words in sentences]
        told += any(words and len(words & said) >= TOLD * len(words) for words in own)
    return EvidenceUse(sound, told / len(bodies) if bodies else 0.0)


class EvidenceRewrites(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Has answers rewritten to rest on the passages, and makes a pair of each that gains by it: the rewritten
    answer is chosen, the first one rejected (after RARG, arXiv 2403.14952, and MisinfoCorrect, arXiv
    2303.06433, which train such answers to false claims by rewards).

    The reward is ``evidence_use``: the harmonic mean of how much of an answer is not unsupported by the
    passages and how many of them it tells something of. Where the question names its passages, these are what
    has to be told, and all passages are what may support a claim. Both sides' values are the scores
    ``chosen_evidence_use`` and ``rejected_evidence_use``.

    Rejected: a rewriting that does not gain ``margin``, that the rules cannot read, was cut off or declines,
    or that holds none of the reference answers where the question has some (the reward does not see whether
    the question is answered); and an answer that is already at ``enough``, about which nobody is asked.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Pair
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    margin: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """The least gain of evidence use, in (0, 1]."""
    enough: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The evidence use from which on an answer is not rewritten."""
    grounding: Grounding = Grounding(citations="report")
    """The options of the rules that read claims."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=512)
    """How it is written."""
    prompt: tuple[Message, ...] = (WRITER, _PROMPT)
    """The prompt, with the places ``{passages}``, ``{problem}`` and ``{response}``."""

    def __post_init__(self) -> None:
        require("prompt", self.prompt, "passages", "problem", "response", known=("fence",))

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(("passages", "problem", "response", "fence"), prompt=self.prompt)

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Pair | Rejection]:
        """The pair, or why there is none."""
        _, found = held(record)
        if record.finish_reason != "stop" or not record.completion.strip():
            raise RowRejected("evidence_rewrites: the answer is cut off or empty", record.finish_reason)
        before = self._use(record, record.completion)
        if before.value >= self.enough:
            return [
                Rejection(record.id, "evidence_rewrites: it uses the evidence already", f"{before.value:.3f}")
            ]
        seed = context.seed_for(record.id, _CALL)
        values = quoted(
            seed, passages=numbered(found), problem=record.problem, response=record.completion.strip()
        )
        text = await asked_text(self.sampling, self.prompt, values, engine=context.engine, seed=seed)
        meta = fields(record.meta)
        wanted = references_of(meta, ("answers",)) or read_references(record.answer or "")
        if wanted and not any(holds(text, one) for one in wanted):
            return [Rejection(record.id, "evidence_rewrites: it does not hold the answer", text[:200])]
        after = self._use(record, text)
        gain = after.value - before.value
        context.measure("evidence use gained by rewriting, in %", round(100 * gain))
        if gain < self.margin:
            detail = f"{before.value:.3f} before, {after.value:.3f} after"
            return [Rejection(record.id, "evidence_rewrites: no more of the evidence is used", detail)]
        sides = (("chosen", after), ("rejected", before))
        return [
            Pair(
                id=f"{record.id}/rewritten",
                problem_id=record.problem_id,
                kind="evidence use",
                prompt=record.messages,
                chosen=(Message("assistant", text),),
                rejected=(Message("assistant", record.completion),),
                scores=tuple(Score(f"{side}_{USE}", one.value) for side, one in sides),
                meta=record.meta,
            )
        ]

    def _use(self, record: Sampled, text: str) -> EvidenceUse:
        meta, found = held(record)
        own = own_ids(meta)
        evidence = [one for one in found if one.get("source") in own] if own else found
        try:
            told = evidence_use(text, evidence or found, record.problem, self.grounding)
            return told._replace(sound=evidence_use(text, found, record.problem, self.grounding).sound)
        except ValueError as error:
            raise RowRejected("evidence_rewrites: an answer cannot be read", str(error)) from error

    def estimate(self, record: Sampled) -> Estimate:
        """A rewriting, or nothing where the answer is good enough."""
        try:
            shown = numbered(held(record)[1])
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        made = bounds(1, 1, "text", self.sampling.max_tokens, record.problem, shown, record.completion)
        return msgspec.structs.replace(made, completions_min=0, rows_max=1)
