"""What a blend of two tiny real models says, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python blended.py FOLDER TINY    FOLDER has the model ``base`` and ``rows.jsonl``; TINY is tests/train
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gristmill.train.merging import Blend, equal_shares, group_of, group_shares, layer_of, merge, tune_ratios


def transformers_loss(folder: Path, rows: Any) -> float:
    """The mean loss of all trained tokens, by Transformers' own loss, row by row."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    total = count = 0.0
    for row in rows:
        trained = sum(label != -100 for label in row.labels[1:])
        with torch.no_grad():
            found = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels]))
        total, count = total + float(found.loss) * trained, count + trained
    return total / count


def main(folder: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, aligned = folder / "base", folder / "aligned"
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(aligned)
    AutoTokenizer.from_pretrained(base).save_pretrained(aligned)

    blend = Blend([aligned, base], batch=2, gpu=False)
    rows = blend.rows(folder / "rows.jsonl")
    merge([aligned, base], folder / "merged", group_shares([0.7, 0.2], 2), method="adaptive", shown={})

    def group(name: str) -> int | None:
        layer = layer_of(name)
        return None if layer is None else group_of(layer, 2, 2)

    def loss(first: float, second: float) -> float:
        def shares(name: str) -> list[float]:
            share = {0: first, 1: second, None: 0.3}[group(name)]
            return [share, 1 - share]

        return blend.loss(shares, rows)

    _, slopes = blend.slopes(group_shares([0.3, 0.3], 2), rows, group)
    step = 0.02
    ratios = tune_ratios(blend, rows, mean=0.5, groups=2)
    return {
        "blend": blend.loss(group_shares([0.7, 0.2], 2), rows),
        "merged": transformers_loss(folder / "merged", rows),
        "base": [blend.loss(equal_shares([0, 1]), rows), transformers_loss(base, rows)],
        "batches": [Blend([base], batch=n, gpu=False).loss(equal_shares([1]), rows) for n in (1, 5)],
        "slopes": [slopes[0], slopes[1]],
        "differences": [
            (loss(0.3 + step, 0.3) - loss(0.3 - step, 0.3)) / (2 * step),
            (loss(0.3, 0.3 + step) - loss(0.3, 0.3 - step)) / (2 * step),
        ],
        "ratios": ratios.aligned,
        "losses": ratios.losses,
        "tuned": blend.loss(group_shares(ratios.aligned, 2), rows),
    }


if __name__ == "__main__":
    where = Path(sys.argv[1])
    sys.path.insert(0, sys.argv[2])
    import tiny

    tiny.make(where / "base")
    print(json.dumps(main(where)))
