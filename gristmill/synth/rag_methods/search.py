"""``retrieval_search``: tree search whose steps ask, search, reason and answer over a question's passages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta
from msgspec.structs import asdict

from gristmill.core.engine import Completion, Message, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fields
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.steps import Tree
from gristmill.synth.rag.index import index
from gristmill.synth.rag.retrieve import listed
from gristmill.synth.tree_search.expand import FAILED, Draft, Expander
from gristmill.synth.tree_search.grow import Growing
from gristmill.synth.tree_search.mcts import TreeSearch
from gristmill.synth.tree_search.presets import Algorithm
from gristmill.verifiers.grounding.nearest import NearPassage, Rank

Action = Literal["Sub-question", "Search", "Thought", "Answer"]
FOUND = "Found: "
"""What begins the line behind a search, which no model wrote."""
ACTION = re.compile(r"\s*(Sub-question|Search|Thought|Answer): *(\S[^\n]*)\n?")
_PROMPT = (
    "Question: {problem}\n\nFind the answer in a collection of passages, one line at a time. Each line is "
    "one of these:\nSub-question: what has to be known first\nSearch: words to look for; a line that begins "
    'with "Found:" and holds the passages follows by itself\nThought: what follows from what was found\n'
    "Answer: the short answer to the question, as the last line\n\nSearch before you answer."
)
_EXAMPLE = (
    Message("user", "Question: How high is the mountain below which the Orra rises?"),
    Message(
        "assistant",
        "Sub-question: Below which mountain does the Orra rise?\nSearch: the Orra rises below\n"
        "Found: The Orra: The Orra rises below Mount Elk.\nSearch: height of Mount Elk\n"
        "Found: Mount Elk: Mount Elk is 900 metres high.\n"
        "Thought: The Orra rises below Mount Elk, which is 900 metres high.\nAnswer: 900 metres",
    ),
)


class RetrievalSearch(TreeSearch, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Grows a search tree over the steps of answering with retrieval (ReARTeR, arXiv 2501.07861; CR-Planner,
    arXiv 2410.01428).

    A step is a line: ``Sub-question:``, ``Search:``, ``Thought:`` or ``Answer:``, which ends a solution.
    Behind a search stands the line ``Found:`` with the nearest of the question's passages by BM25, put there
    by this stage and not by the model; a line of any other kind fails. A question brings its passages, as
    many as are to be searched among (``retrieve`` with a large ``top_k``).

    The rest is ``tree_search`` with other defaults: an iteration goes on to an answer, which the verifier
    judges, so that every value comes of searches that were really made. ``value: rollout`` is refused, since
    a rollout would invent what is found.
    """

    algorithm: Algorithm = "rstar"
    """The published search whose settings the options have that are ``null``."""
    branch: Annotated[int, Meta(ge=1)] | None = 3
    """The lines drawn after a beginning; equal ones are one child."""
    depth: Annotated[int, Meta(ge=1)] | None = 8
    """The most lines of a solution."""
    iterations: Annotated[int, Meta(ge=1)] | None = 16
    """The iterations of a question."""
    prompt: str = _PROMPT
    """The user turn, in which ``{problem}`` is the question and ``{NAME}`` any other column."""
    examples: tuple[Message, ...] = _EXAMPLE
    """Worked examples, user and assistant turns, sent as they are before the prompt."""
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=96)
    """How a line is sampled."""
    boundary: str = "\n"
    """What ends a step: always the end of the line."""
    answer_marks: tuple[str, ...] = ("Answer:",)
    """A line that holds one of these ends its solution."""
    found: Annotated[int, Meta(ge=1, le=20)] = 1
    """The most passages that a search finds."""

    reads: ClassVar[Any] = Problem

    def __post_init__(self) -> None:
        TreeSearch.__post_init__(self)
        if self.plan.value == "rollout":
            raise RecipeError(
                "retrieval_search: value: rollout would continue without searching.",
                remedy="Use value: verifier with an algorithm that goes on to an end (rstar), or self or "
                "judge.",
            )
        if self.boundary != "\n":
            raise RecipeError(
                f"retrieval_search: boundary is {self.boundary!r}, but a step is a line.",
                remedy="Leave boundary out.",
            )

    def expander(self, tree: Growing, context: Any, record: Problem | None) -> Expander:
        """What draws the steps and makes the searches; without a record it has nothing to search among."""
        plain = TreeSearch.expander(self, tree, context, record)
        meta = fields(record.meta) if record is not None and context is not None else {}
        held = listed(meta) if context is not None else []
        return _Searching(**asdict(plain), held=held, rank=_ranked(held, self.found))

    async def extend(self, tree: Tree, context: Context) -> Tree:
        """``RecipeError``: a saved tree does not have the passages that it was grown over."""
        raise RecipeError(
            f"the tree {tree.id!r} was grown over passages that it does not hold.",
            remedy="Run retrieval_search again with more iterations: the log answers what was asked before.",
        )


def _ranked(held: Sequence[Mapping[str, Any]], most: int) -> Rank:
    if not held:
        return _nothing
    return index([f"{one.get('title') or ''}\n{one.get('text') or ''}" for one in held], "bm25", None, most)


def _nothing(question: str) -> list[NearPassage]:
    return []


class _Searching(Expander, frozen=True, kw_only=True):
    """Draws lines, and writes behind each search what it finds among ``held``."""

    held: Sequence[Mapping[str, Any]]
    rank: Rank

    def read(self, completion: Completion) -> Draft:
        """The line that a completion is; ``failed`` if it is none of the four kinds."""
        draft = Expander.read(self, completion)
        action = ACTION.fullmatch(draft.text)
        if draft.failed:
            return draft
        if action is None or completion.finish_reason == "length":
            draft.note = f"{FAILED}not a line of a known kind"
        elif action[1] == "Search":
            draft.text += f"{FOUND}{self._found(action[2])}\n"
        return draft

    def _found(self, words: str) -> str:
        """The passages that a search finds, in one line."""
        texts = []
        for near in self.rank(words):
            one = self.held[near.number]
            title = f"{one['title']}: " if one.get("title") else ""
            texts.append(" ".join(f"{title}{one.get('text') or ''}".split()))
        return " / ".join(texts) or "nothing"
