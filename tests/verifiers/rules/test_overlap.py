"""BLEU as a verifier, against sacrebleu itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import MissingExtraError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.pool.pool import Pool
from gristmill.verifiers.rules.overlap import LIMIT, Bleu

HYPOTHESIS = "The dog bit the man in the park."
REFERENCES = ["The dog had bit the man.", "A dog bit the man in a park."]


def test_the_score_is_that_of_sacrebleu() -> None:
    import sacrebleu

    for references in (REFERENCES, REFERENCES[:1]):
        expected = sacrebleu.sentence_bleu(HYPOTHESIS, references).score / 100
        verdict = Bleu()(HYPOTHESIS, json.dumps(references))
        assert verdict.score == pytest.approx(expected)
        assert 0 < expected < 1
    assert Bleu()(HYPOTHESIS, REFERENCES[0]).score == pytest.approx(expected)


def test_threshold_and_ends() -> None:
    score = Bleu()(HYPOTHESIS, REFERENCES[1]).score
    assert score is not None
    assert Bleu(threshold=score)(HYPOTHESIS, REFERENCES[1]).correct
    assert Bleu(threshold=score + 1e-6)(HYPOTHESIS, REFERENCES[1]).outcome is Outcome.INCORRECT
    assert Bleu()(HYPOTHESIS, HYPOTHESIS).score == pytest.approx(1.0)
    assert Bleu()("Yes", "Yes").score == pytest.approx(1.0)
    assert Bleu()("cat", "dog").score == 0.0
    assert Bleu(lowercase=True)("THE DOG BIT A MAN", "the dog bit a man").score == pytest.approx(1.0)


def test_undecided() -> None:
    assert Bleu()(" ", "a").outcome is Outcome.UNPARSEABLE
    assert Bleu()("a" * (LIMIT + 1), "a").rule == "too long"
    assert Bleu()("a", "").outcome is Outcome.ERROR


def test_without_sacrebleu_the_error_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.verifiers.rules.overlap.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gristmill\[verifiers\]"):
        Bleu()


def test_sacrebleu_is_loaded_with_the_first_verdict_only() -> None:
    code = (
        "import sys\nfrom gristmill.verifiers.rules.overlap import Bleu\nb = Bleu()\n"
        "assert 'sacrebleu' not in sys.modules\nassert b('a', 'a').correct\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_a_worker() -> None:
    with Pool("bleu", options={"threshold": 0.9}, workers=1) as pool:
        assert pool.verify(HYPOTHESIS, HYPOTHESIS).correct
        assert pool.verify("word " * (LIMIT // 5), HYPOTHESIS).outcome is Outcome.INCORRECT


@given(st.text(max_size=200), st.text(min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_any_text_gets_a_verdict(completion: str, reference: str) -> None:
    verdict = Bleu()(completion, reference)
    assert verdict.rule != "raised"
    assert verdict.score is None or 0 <= verdict.score <= 1
