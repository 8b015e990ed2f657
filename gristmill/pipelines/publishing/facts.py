"""What is known of the rows of a push, gathered once for the card and for ``croissant.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from gristmill.engines.options import NONE
from gristmill.pipelines.publishing.citations import Paper, papers_of
from gristmill.pipelines.recipe.entries import Card
from gristmill.pipelines.recipe.plain import convert, document
from gristmill.pipelines.rundir.directory import RECIPE
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import FAILURES, Summary

_JUDGES = ("judge", "verify", "score", "rate", "check")
"""Words in the names of stages that give verdicts or scores."""


class RunFacts(Struct, frozen=True):
    """Of a run, and of the ``card`` in its recipe. Of a file that was given all but the names is empty."""

    repo: str
    url: str
    name: str
    card: Card
    recipe: Mapping[str, Any] = {}
    recipe_text: str = ""
    summary: Summary | None = None
    papers: Sequence[Paper] = ()

    @property
    def title(self) -> str:
        """The data set's name."""
        return self.card.title or self.repo.rpartition("/")[2]

    @property
    def about(self) -> str:
        """A sentence or two on what it is."""
        return self.card.summary or self.made_by

    @property
    def made_by(self) -> str:
        """How the rows came to be, in one sentence."""
        if self.summary is None:
            return f"Rows of the file {self.name}."
        if not self.models:
            return f"Rows that the Gristmill recipe {self.name} curated without asking a model."
        return f"Rows made by the Gristmill recipe {self.name} with {', '.join(self.models)}."

    @property
    def models(self) -> list[str]:
        """The models that were asked, the main one first."""
        if self.summary is None:
            return []
        main = [] if self.engines["engine"].get("kind", NONE) == NONE else [self.summary.model]
        return [model for model in dict.fromkeys([*main, *self.summary.models.values()]) if model]

    @property
    def engines(self) -> dict[str, Mapping[str, Any]]:
        """The recipe's engines by their names; the main one's is ``engine``."""
        main = self.recipe.get("engine") or {}
        return {"engine": main, **(self.recipe.get("engines") or {})}

    @property
    def tags(self) -> list[str]:
        """Words to search by."""
        return [*dict.fromkeys(["gristmill", *(["synthetic"] if self.models else []), *self.card.tags])]

    @property
    def sources(self) -> list[str]:
        """Each source with its fingerprint, or where it is from."""
        several = self.recipe.get("sources") or {}
        if self.recipe.get("source"):
            several = {"source": self.recipe["source"]}
        found = []
        for name, given in several.items():
            place = str(given.get("path") or given.get("dataset") or given.get("run") or "")
            fingerprint = self.summary.sources.get(name, "") if self.summary else ""
            if self.summary and len(several) == 1:
                fingerprint = fingerprint or self.summary.source
            found.append(f"{name}: {fingerprint or place}")
        return found

    @property
    def steps(self) -> list[str]:
        """The stages in order, each with the rows in and out."""
        stages = self.summary.stages if self.summary else []
        return [f"{s.name}: {s.rows_in:,} rows in, {s.rows_out:,} out" for s in stages]

    @property
    def judged_by(self) -> list[str]:
        """What gave verdicts and scores."""
        if self.summary is None:
            return []
        verifiers = [self.recipe.get("verifier"), *(self.recipe.get("verifiers") or {}).values()]
        judged = any(stage.verdicts for stage in self.summary.stages)
        found = [f"Gristmill verifier {v['kind']}" for v in verifiers if judged and v and "kind" in v]
        stages = [str(s.get("stage")) for s in self.recipe.get("stages") or ()]
        found += [f"Gristmill stage {s}" for s in stages if any(word in s for word in _JUDGES)]
        return [*dict.fromkeys(found)]

    @property
    def limits(self) -> list[str]:
        """What a user must know: the recipe's own words, then what the run tells."""
        return [*self.card.limits, *self._told()]

    def _told(self) -> Iterator[str]:
        if self.summary is None:
            return
        if self.models:
            yield (
                "The texts are a model's own and may be wrong in ways that its checks do not see: a verifier "
                "that compares final answers says nothing of the steps before them."
            )
        summary = self.summary
        verdicts = total(stage.verdicts for stage in summary.stages)
        undecided = sum(n for v, n in verdicts.items() if v not in ("correct", "incorrect"))
        if undecided:
            yield (
                f"{undecided:,} of {sum(verdicts.values()):,} verdicts were not decided; such answers count "
                "neither as right nor as wrong."
            )
        lost = sum(n for stage in summary.stages for why, n in stage.rejected.items() if why in FAILURES)
        if lost:
            yield f"{lost:,} rows were lost to failures of the engine and are missing here."
        if summary.limit is not None:
            yield f"Only the first {summary.limit:,} rows of each source were taken."
        if summary.ended:
            yield summary.ended
        if summary.unfinished is not None:
            yield f"The run has not come to its end: {summary.unfinished.why}"
        kinds = {str(s.get("stage")) for s in self.recipe.get("stages") or ()}
        if "decontaminate" not in kinds:
            yield "The rows were not compared with any benchmark, so they may hold items of one."
        if "dedupe" not in kinds:
            yield "Near-duplicates were not looked for."


def total(counts: Iterator[Mapping[str, int]] | Any) -> Counter[str]:
    """The sum of several counts."""
    found: Counter[str] = Counter()
    for one in counts:
        found.update(one)
    return found


def facts_of(
    what: Run | Path,
    repo: str,
    url: str,
    card: Mapping[str, Any] | None = None,
    former: Card | None = None,
) -> RunFacts:
    """What is known of a run or file. ``card`` takes the place of keys of the recipe's own, and these of what
    an earlier push into the repository was given.

    Raises ``RecipeError`` for a key that a card does not have.
    """
    import yaml

    earlier = {key: value for key, value in asdict(former or Card()).items() if value}
    if isinstance(what, Path):
        return RunFacts(repo, url, what.name, convert({**earlier, **(card or {})}, Card, "card"))

    recipe = _without_places(document(what.path / RECIPE))
    mine = {key: value for key, value in (recipe.get("card") or {}).items() if value}
    own = convert({**earlier, **mine, **(card or {})}, Card, "card")
    return RunFacts(
        repo,
        url,
        what.summary.name,
        own,
        recipe,
        yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        what.summary,
        tuple(papers_of(recipe)),
    )


def _without_places(data: Any) -> Any:
    """Plain data in which a path of this machine is the name of its file alone."""
    if isinstance(data, Mapping):
        return {key: _without_places(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_without_places(value) for value in data]
    if isinstance(data, str) and "\n" not in data and Path(data).is_absolute():
        return Path(data).name
    return data
