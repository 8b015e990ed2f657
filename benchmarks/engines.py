"""Tokens per second of recipes with vLLM in process, against vLLM's own offline ``LLM.generate``.

For each workload a recipe runs (source, runner, session, completion log, verdicts, output files), and then
``LLM.generate`` is given, all at once, the very prompts and sampling parameters that the recipe's log holds,
rendered beforehand. Both run in one process, one after the other, each with an engine of its own, the same
engine arguments and one request ahead to warm up; the clock runs from the loaded model to the last token (of
the recipe: to its last file). Later turns of a recipe wait for earlier ones, those of ``generate`` do not.

- single: one turn, several samples of a prompt.
- three: the same with two follow-ups.
- steps: a solution, then rollouts from every prefix of it.

"hits" is the share of prompt tokens that the prefix cache had, by vLLM's own counters. "once" is their number
relative to the tokens in whole blocks that the second and later samples of each prompt ask for again: 100 %
where K rollouts of a prefix compute it once, and more where prompts share a beginning too.

    python benchmarks/engines.py MODEL [--rows 100] [--samples 8] [--tokens 64] [--repeats 3]
        [--args '{"max_model_len": 1024}'] [--workloads single three steps] [--json FILE]

Runs on whatever device vLLM finds. Needs a Python with vLLM and Gristmill.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"single": 0.95, "three": 0.90, "steps": 0.90}
FOLLOW_UPS = ["Check your answer step by step.", "Say the final answer again."]
RECIPE = ROOT / "data" / "recipes" / "step-values.yaml"
"""Its worked examples make answers of several lines that end; others have no second turn or step values."""


class Measured(msgspec.Struct):
    seconds: float
    requests: int
    prompt_tokens: int
    completion_tokens: int
    queries: float = 0.0
    hits: float = 0.0
    repeated: int = 0
    """Tokens in whole blocks of prompts, once for each sample of a request behind its first."""

    @property
    def rate(self) -> float:
        return self.completion_tokens / self.seconds


def recipe(workload: str, given: argparse.Namespace) -> dict[str, Any]:
    """The recipe of a workload, as its YAML would be."""
    import yaml

    shipped = yaml.safe_load(RECIPE.read_text())["stages"][0]
    sampling = {"temperature": 0.8, "max_tokens": given.tokens}
    sample: dict[str, Any] = shipped | {"sampling": sampling}
    stages = [sample | {"samples": given.samples}]
    if workload == "three":
        stages[0]["follow_ups"] = FOLLOW_UPS
    elif workload == "steps":
        rollouts = {"sampling": sampling}
        split = {"by": "line"}
        stages = [
            sample | {"samples": 1},
            {"stage": "step_values", "k": given.samples, "split": split, "rollouts": rollouts},
        ]
    return {
        "name": workload,
        "engine": {"kind": "vllm", "model": given.model, "args": arguments(given)},
        "source": {"path": str(ROOT / "data" / "arithmetic.jsonl")},
        "limit": given.rows,
        "stages": stages,
    }


def arguments(given: argparse.Namespace) -> dict[str, Any]:
    """vLLM's engine arguments; statistics are what the cache's hits are read from."""
    return {"max_model_len": 1024, "disable_log_stats": False} | json.loads(given.args)


def cache() -> tuple[float, float]:
    """Prompt tokens looked up in the prefix cache, and found there, since vLLM started."""
    from vllm.v1.metrics.reader import get_metrics_snapshot

    found = {m.name: getattr(m, "value", 0.0) for m in get_metrics_snapshot()}
    return found.get("vllm:prefix_cache_queries", 0.0), found.get("vllm:prefix_cache_hits", 0.0)


def run_recipe(workload: str, given: argparse.Namespace, folder: Path) -> Measured:
    """The recipe from the loaded model to its last file."""
    import yaml

    from gristmill.core.engine import Message, Request, Sampling
    from gristmill.engines.vllm import engine as vllm
    from gristmill.pipelines.running.runner import run

    times: list[float] = []
    counts: list[tuple[float, float]] = []
    block: list[int] = []

    class Timed(vllm.VllmEngine):
        """Tells when the model is loaded (and warm), and what the cache did until it is stopped."""

        async def __aenter__(self) -> Any:
            await super().__aenter__()
            await self.generate(Request((Message("user", "Hello"),), Sampling(max_tokens=8), 0))
            assert self._loaded is not None
            block.append(self._loaded.llm.vllm_config.cache_config.block_size)
            counts.append(cache())
            times.append(time.perf_counter())
            return self

        async def __aexit__(self, *error: Any) -> None:
            counts.append(cache())
            times.append(time.perf_counter())
            await super().__aexit__(*error)

    vllm.VllmEngine = Timed  # type: ignore[misc]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(workload, given)))
    run(path, runs=folder / "runs", log=folder / "log.sqlite", quiet=True)
    tokens = [(c.prompt_tokens, c.completion_tokens) for _, samples in logged(folder) for c in samples]
    return Measured(
        times[1] - times[0],
        len(logged(folder)),
        sum(p for p, _ in tokens),
        sum(c for _, c in tokens),
        counts[1][0] - counts[0][0],
        counts[1][1] - counts[0][1],
        # The last token is always computed: its logits are wanted.
        sum((cs[0].prompt_tokens - 1) // block[0] * block[0] * (len(cs) - 1) for _, cs in logged(folder)),
    )


def logged(folder: Path) -> list[tuple[Any, list[Any]]]:
    """The requests of the recipe in the order in which they were made, each with its completions."""
    from gristmill.core.engine import Completion, Request

    with sqlite3.connect(folder / "log.sqlite") as log:
        rows = log.execute(
            "SELECT request.rowid, request, completion FROM request JOIN completion USING (key)"
            " ORDER BY request.rowid, sample"
        ).fetchall()
    found: dict[int, tuple[Any, list[Any]]] = {}
    for number, request, completion in rows:
        entry = found.setdefault(number, (msgspec.json.decode(request, type=Request), []))
        entry[1].append(msgspec.json.decode(completion, type=Completion))
    return list(found.values())


def run_generate(given: argparse.Namespace, folder: Path) -> Measured:
    """``LLM.generate`` on what the recipe in ``folder`` asked for."""
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    # As in the engine.
    cpu = {"enable_chunked_prefill": False, "block_size": 32} if current_platform.is_cpu() else {}
    llm = LLM(model=given.model, **cpu | arguments(given))
    tokenizer = llm.get_tokenizer()
    prompts, params = [], []
    for request, samples in logged(folder):
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
        ids = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not request.prefix,
            continue_final_message=bool(request.prefix),
            return_dict=False,
        )
        prompts.append({"prompt_token_ids": ids})
        sampling = request.sampling
        params.append(
            SamplingParams(
                n=len(samples),
                seed=request.seed,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
            )
        )
    llm.generate("Hello", SamplingParams(max_tokens=8), use_tqdm=False)
    before, started = cache(), time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds, after = time.perf_counter() - started, cache()
    return Measured(
        seconds,
        len(outputs),
        sum(len(o.prompt_token_ids) for o in outputs),
        sum(len(c.token_ids) for o in outputs for c in o.outputs),
        after[0] - before[0],
        after[1] - before[1],
    )


def child(workload: str) -> tuple[Measured, Measured]:
    """The recipe and ``generate``, in a process of their own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", workload]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{workload} failed ({done.returncode})")
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=tuple[Measured, Measured])


def measure(workload: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both in turn, ``repeats`` times."""
    pairs = [child(workload) for _ in range(given.repeats)]
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    ours, theirs = pairs[-1]
    ratio, hits = statistics.median(ratios), ours.hits / max(ours.queries, 1)
    once = ours.hits / max(ours.repeated, 1)
    print(
        f"{workload:8} {ours.requests:5} requests, {ours.completion_tokens:7} tokens; "
        f"recipe {statistics.median(a.rate for a, _ in pairs):8.1f} tokens/s, "
        f"generate {statistics.median(b.rate for _, b in pairs):8.1f}; "
        f"{ratio:6.1%} [{min(ratios):.1%}, {max(ratios):.1%}] (limit {LIMITS[workload]:.0%}); "
        f"hits {hits:.1%} (generate {theirs.hits / max(theirs.queries, 1):.1%}), once {once:.1%}",
        flush=True,
    )
    return {
        "workload": workload,
        "ratio": ratio,
        "ratios": ratios,
        "hits": hits,
        "once": once,
        "recipe": [msgspec.to_builtins(a) for a, _ in pairs],
        "generate": [msgspec.to_builtins(b) for _, b in pairs],
        "met": ratio >= LIMITS[workload],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--args", default="{}", help="vLLM's engine arguments, as JSON")
    parser.add_argument("--workloads", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=LIMITS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        with tempfile.TemporaryDirectory() as name:
            found = run_recipe(given.child, given, Path(name)), run_generate(given, Path(name))
        print(msgspec.json.encode(found).decode(), flush=True)
        return
    results = [measure(workload, given) for workload in given.workloads]
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
