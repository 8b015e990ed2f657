"""The typed records that flow between stages. Each is declared once; ``schema`` derives its columns.

Fields may be ``str``, ``int``, ``float``, ``bool``, literals of strings, other records, tuples of
these, and ``None`` unions of these. The first field of every record is its ``id``, unique in a data set.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Completion, Message, Role, ToolCall
from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict

R = TypeVar("R", bound=Struct)


class Problem(Struct, frozen=True):
    """A question with, where known, its reference answer.

    ``meta`` is a JSON object with whatever else the source's row held.
    """

    id: str
    problem: str
    answer: str | None = None
    level: int | None = None
    meta: str = "{}"


class Score(Struct, frozen=True):
    """What one verifier, judge or reward model says of a record: a number, a verdict with its evidence, or
    both. ``chosen`` and ``rejected`` (or ``chosen_NAME``, ``rejected_NAME``) are of the sides of a pair."""

    name: str
    value: float | None = None
    verdict: Verdict | None = None


class Sampled(Struct, frozen=True):
    """One sampled conversation: ``messages`` as sent, then the last ``completion``.

    ``reasoning`` is what the model thought before the completion, and ``reasoning_tokens`` how many of the
    ``completion_tokens`` went into that, where the engine tells them apart. ``verdict`` is the one on its
    answer by the recipe's verifier; ``scores`` are any further ones, by unique names. ``model`` is the
    engine's where several were asked. ``meta`` is the problem's.
    """

    id: str
    problem_id: str
    index: int
    problem: str
    answer: str | None
    messages: tuple[Message, ...]
    completion: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    verdict: Verdict | None = None
    scores: tuple[Score, ...] = ()
    model: str | None = None
    meta: str = "{}"
    reasoning: str = ""
    reasoning_tokens: int = 0


class ToolRun(Struct, frozen=True):
    """A call of a tool in a conversation, and what came of it.

    ``turn`` is the index of the turn that makes the call; ``arguments`` are as the model wrote them.
    ``failed`` says that the tool gave no result: ``result`` is then why. ``seconds`` are whole ones, rounded
    down, so that a run again writes the same row.
    """

    turn: int
    tool: str
    arguments: str
    result: str
    failed: bool = False
    seconds: int = 0


class Span(Struct, frozen=True):
    """Characters ``start:end`` of a turn's content that carry loss."""

    start: int
    end: int


class Detail(Struct, frozen=True):
    """Characters of a written message that carry loss or do not. Unlike ``Span.end``, ``end_offset`` is the
    last character's own index."""

    begin_offset: int
    end_offset: int
    train: bool


class ReasoningPart(Struct, frozen=True):
    """A part of a message's reasoning with a mark of its own."""

    type: str
    text: str
    train: bool


class Turn(Struct, frozen=True):
    """One turn of a trajectory. ``train`` says whether its tokens carry loss.

    ``spans`` narrows a trained turn to parts of its content; empty means the whole turn. ``reasoning`` is
    what the model thought before the content; whether it is trained is up to the export. ``tool_calls`` and
    ``tool_call_id`` are as in ``Message``: calls carry loss with their turn, results never do.
    """

    role: Role
    content: str
    train: bool
    spans: tuple[Span, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


def turn_of(message: Message, *, train: bool = False) -> Turn:
    """A message as a turn, with its reasoning and its calls."""
    return Turn(
        message.role,
        message.content,
        train,
        reasoning=message.reasoning,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
    )


def message_of(turn: Turn) -> Message:
    """A turn as a message, with its reasoning and its calls."""
    return Message(turn.role, turn.content, turn.reasoning, turn.tool_calls, turn.tool_call_id)


class ToolSample(Sampled, frozen=True):
    """A sample in which the model used tools: what a ``Sampled`` has, with ``completion`` the last answer.

    ``turns`` are the whole conversation with loss marks: all that the model wrote carries loss, and no result
    of a tool does. ``calls`` are the calls in their order. ``tools`` are as in ``Request``; empty where the
    model wrote its calls as text.
    """

    turns: tuple[Turn, ...] = ()
    calls: tuple[ToolRun, ...] = ()
    tools: str = ""


Subset = Literal["D1", "D2", "D3"]
Style = Literal["verify", "yes_no", "merged"]


class Trajectory(Struct, frozen=True):
    """A self-correction trajectory (arXiv 2502.19613, section 3.1).

    ``subset``: D1 wrong, judged wrong, corrected; D2 right, judged wrong, right again;
    D3 right, judged correct, stop. Worked examples of the prompt are never part of ``turns``.
    """

    id: str
    problem_id: str
    problem: str
    answer: str
    subset: Subset
    style: Style
    turns: tuple[Turn, ...]


class Demonstration(Struct, frozen=True):
    """A conversation to imitate; ``train`` marks the turns that carry loss. ``kind`` says what it teaches."""

    id: str
    problem_id: str
    problem: str
    answer: str | None
    kind: str
    turns: tuple[Turn, ...]


class Conversation(Struct, frozen=True):
    """A conversation from elsewhere; its assistant turns are trained. ``meta`` is a JSON object with whatever
    else the source's row held; ``tools`` are as in ``Request``, those that the assistant could call."""

    id: str
    turns: tuple[Turn, ...]
    meta: str = "{}"
    tools: str = ""


class Passage(Struct, frozen=True):
    """A text to ask about or to rest answers on. ``meta`` is as in ``Problem``."""

    id: str
    text: str
    title: str | None = None
    meta: str = "{}"


class Dialogue(Struct, frozen=True):
    """What an export of conversations reads: any record with these fields (``Trajectory``,
    ``Demonstration``, ``Conversation``, or a plug-in's own). ``tools`` are as in ``Request``; records without
    this field have none."""

    id: str
    turns: tuple[Turn, ...]
    tools: str = ""


class Pair(Struct, frozen=True):
    """A preference pair: both sides continue the same ``prompt``; ``kind`` names the rule it came from.

    ``weight`` is its share of the loss; ``flip`` the probability that the label is the wrong way round
    (the epsilon of conservative DPO). ``scores`` are of the pair and its sides, by unique names; ``meta`` is
    a JSON object with whatever else is known.
    """

    id: str
    problem_id: str
    kind: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    weight: float = 1.0
    flip: float = 0.0
    scores: tuple[Score, ...] = ()
    meta: str = "{}"


class Labelled(Struct, frozen=True):
    """A completion of ``prompt`` with a label of its own, in no pair: wanted (``True``) or not.

    ``weight`` is its share of the loss. ``scores`` and ``meta`` are as in ``Pair``, of this one side.
    """

    id: str
    problem_id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool
    weight: float = 1.0
    scores: tuple[Score, ...] = ()
    meta: str = "{}"


class Judged(Struct, frozen=True):
    """A completion with the verifier's verdict on its answer.

    ``sound`` is False where its reasoning was checked and found false: then it is not worth imitating,
    though its answer be right.
    """

    completion: Completion
    verdict: Verdict
    sound: bool = True


class Evaluation(Struct, frozen=True):
    """A self-evaluation. ``says_correct`` is ``None`` where no verdict (or more than one) was given.

    ``sound`` is as in ``Judged``.
    """

    completion: Completion
    says_correct: bool | None
    sound: bool = True


class Base(Struct, frozen=True):
    """A first attempt with the self-evaluations and corrections sampled from it."""

    index: int
    attempt: Judged
    evaluations: tuple[Evaluation, ...] = ()
    corrections: tuple[Judged, ...] = ()


class Exploration(Struct, frozen=True):
    """All that self-correction sampling drew for one problem, right or wrong."""

    id: str
    problem: str
    answer: str
    style: Style
    bases: tuple[Base, ...]
    stopped: str
    """Why sampling of this problem ended: ``wanted``, ``budget`` or ``hopeless``."""


def with_score(record: R, score: Score) -> R:
    """``record`` with ``score``, in the place of one of the same name where there is one.

    ``RecipeError`` for a record of a type that has no scores.
    """
    scores = _scores(record)
    if score_of(record, score.name) is None:
        return replace(record, scores=(*scores, score))
    return replace(record, scores=tuple(score if s.name == score.name else s for s in scores))


def score_of(record: Struct, name: str) -> Score | None:
    """The score of that name, ``None`` where there is none. Raises as ``with_score`` does."""
    return next((score for score in _scores(record) if score.name == name), None)


def _scores(record: Any) -> tuple[Score, ...]:
    if "scores" not in record.__struct_fields__:
        raise RecipeError(
            f"records of type {type(record).__name__} have no scores.",
            remedy="Score the samples or pairs that they are made of.",
        )
    scores: tuple[Score, ...] = record.scores
    return scores
