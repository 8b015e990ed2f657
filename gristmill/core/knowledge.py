"""The records of refusal-aware data: what a model knows of a question, and what it says when it is asked.

As in ``steps``, what is kept is the evidence: sampled answers with their verdicts. Labels are formed later.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.records import Judged
from gristmill.core.verdicts import Verdict

Certain = Literal["sure", "unsure"]


class Knowledge(Struct, frozen=True):
    """A question with the model's own answers: one drawn greedily (where asked for) and some samples.

    ``messages`` is what was sent. An answer's text is what was judged, cut where the probe ends answers.

    ``meta`` is the problem's: a JSON object with the rest of the source's row (relation, subject, ...).
    """

    id: str
    problem: str
    answer: str
    meta: str
    messages: tuple[Message, ...]
    greedy: Judged | None
    samples: tuple[Judged, ...]


class Certainty(Struct, frozen=True):
    """What the answers say about a question, and on which side of the split it falls.

    ``classes`` gives each sample the number of its class of equal answers (0 is the first seen; -1: no
    readable answer), ``entropy`` (nats) is that of the readable ones' classes, ``None`` where there are
    none. ``majority`` is the first answer of the largest class and ``share`` its share of all samples.
    ``correct`` of ``decided`` samples are right; ``low`` and ``high`` are the Wilson interval of that share.
    ``certain`` is ``None`` where the rule left the question out. ``part`` is train, test or test_ood.
    """

    id: str
    problem: str
    answer: str
    meta: str
    greedy: str | None
    greedy_correct: bool | None
    majority: str | None
    share: float
    classes: tuple[int, ...]
    entropy: float | None
    correct: int
    decided: int
    low: float
    high: float
    certain: Certain | None
    part: str


class Response(Struct, frozen=True):
    """What a model says to a question when it may refuse (R-Tuning, arXiv 2311.09677, section 3).

    ``completion`` is its answer, ``verdict`` is on it. ``refused`` says that the text itself declines.
    ``confidence`` is the geometric mean of the answer's token probabilities up to its first full stop,
    ``sure`` the probability of "sure" against "unsure" after the question whether it is, ``stated`` the
    confidence that it puts in words, in [0, 1]; each ``None`` where it was not asked for or not readable.
    ``known`` says whether the model knew the answer before training, where that is told. ``mass`` is what
    "sure" and "unsure" have together of all probability: little says that the model was never taught them.
    ``part`` is the question's of the split, where it comes from one.
    """

    id: str
    problem: str
    answer: str
    meta: str
    completion: str
    verdict: Verdict
    refused: bool
    confidence: float | None = None
    sure: float | None = None
    stated: float | None = None
    known: bool | None = None
    mass: float | None = None
    part: str | None = None
