"""Reference score: sentence BLEU by sacrebleu, which can serve as a reward (BLEUBERI, arXiv 2505.11080)."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import MissingExtraError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, read_references, unparseable
from gristmill.verifiers.guard import answered, failure

LIMIT = 100_000
"""The longest completion that is scored, in characters."""


class Bleu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Score a completion by sentence BLEU against the reference, or against all of a JSON list of references.

    The score is sacrebleu's divided by 100, with its effective order (n-grams longer than the text do not
    count). ``unparseable`` for an empty completion or one of more than ``LIMIT`` characters.
    ``MissingExtraError`` without sacrebleu.
    """

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """The lowest score, 0 to 1, that counts as ``correct``. BLEU itself does not divide texts into right and
    wrong; where only the score is used, the threshold does not matter."""
    smooth: Literal["exp", "floor", "add-k", "none"] = "exp"
    """sacrebleu's smoothing of n-grams that do not match."""
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    """sacrebleu's tokenizer."""
    lowercase: bool = False
    """Whether case is ignored."""

    def __post_init__(self) -> None:
        if find_spec("sacrebleu") is None:
            raise MissingExtraError("sacrebleu", install="pip install 'gristmill[verifiers]'")

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Score ``completion``."""
        return answered(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        references = read_references(reference)
        if not references:
            return failure("reference unparseable", "the reference is empty")
        if not completion.strip():
            return unparseable("no answer", "the completion is empty")
        if len(completion) > LIMIT:
            return unparseable(
                "too long", f"the completion has {len(completion):,} characters, over {LIMIT:,}"
            )
        found = self._metric.sentence_score(completion.strip(), list(references))
        score = min(max(found.score / 100, 0.0), 1.0)
        precisions = "/".join(f"{p:.1f}" for p in found.precisions)
        detail = f"precisions {precisions}, brevity penalty {found.bp:.3f}"
        return decided(score >= self.threshold, score=score, rule="bleu", detail=detail)

    @cached_property
    def _metric(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(
            smooth_method=self.smooth,
            tokenize=self.tokenize,
            lowercase=self.lowercase,
            effective_order=True,
        )


def prepare_worker() -> None:
    """Import sacrebleu and fill its tables before any deadline counts."""
    Bleu()("a b c d", "a b c d")
