"""What the stages have in common that draw several samples of a problem and ask about all of them.

Each holds the options of a ``sample`` stage and draws its samples as that stage would: where one with the
same options ran before, the completion log answers them for nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.sampling import Sample

SEVERAL = Sample(samples=4)
JUDGE_CALL = 1_000_000
"""Seeds of the judge's questions are derived apart from those of the samples' turns."""

CHAT = frozenset({Ability.CHAT})


def require_samples(sample: Sample, least: int) -> None:
    """Raise ``RecipeError`` for fewer than ``least`` samples of a problem."""
    if sample.count < least:
        raise RecipeError(
            f"sample.samples is {sample.samples}: too few to weigh against each other.",
            remedy=f"Set sample.samples to at least {least}.",
        )


def engines_used(
    sample: Sample, engine: str | None, needs: frozenset[Ability] = CHAT
) -> dict[str, frozenset[Ability]]:
    """What is asked of further engines: of those that are sampled, and of ``engine``, ``needs`` besides."""
    if engine is None:
        return dict(sample.uses)
    return {**sample.uses, engine: sample.uses.get(engine, frozenset()) | needs}


async def drawn_of(
    stage: Sample, problem: Problem, context: Context
) -> tuple[list[Sampled], list[Rejection]]:
    """The samples of a problem, without verdicts: here the samples judge each other."""
    found = await replace(stage, verify=False)(problem, context)
    samples = [s for s in found if isinstance(s, Sampled)]
    return samples, [r for r in found if isinstance(r, Rejection)]


def summed(first: Estimate, then: Estimate, more_tokens: int = 0, *, rows_max: int) -> Estimate:
    """Two kinds of request as one bound; the prompts of the second kind hold ``more_tokens``. Nothing where
    nothing is sampled."""
    if not first.rows_max:
        return first
    return Estimate(
        first.completions_min + then.completions_min,
        first.completions_max + then.completions_max,
        max(first.prompt_tokens, then.prompt_tokens + more_tokens),
        max(first.completion_tokens, then.completion_tokens),
        rows_max,
    )
