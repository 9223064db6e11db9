"""Learning curves of a sweep over a grid, as ``search_families.py`` reads them. Prints JSON.

The sweep is that of ``search_curves.yaml``::

    python benchmarks/search_curves.py experiments/latest > benchmarks/search_curves.json
"""

from __future__ import annotations

import json
import sys

from kdsweep.reporting import load

STUDENT, LR, WEIGHT = "student.encoder", "train.student.lr", "distill.pixel_kl.weight"


def main() -> int:
    """Read the experiment and print its curves."""
    results = load(sys.argv[1])
    trials = results.trials.set_index("number")
    values = results.epochs.sort_values("epoch").groupby("trial")["value"].apply(list)
    axes = {name: sorted(trials[f"param:{name}"].unique()) for name in (STUDENT, LR, WEIGHT)}
    at = {
        (row[f"param:{STUDENT}"], row[f"param:{LR}"], row[f"param:{WEIGHT}"]): number
        for number, row in trials.iterrows()
    }
    curves = [
        [[[round(v, 4) for v in values[at[s, lr, w]]] for w in axes[WEIGHT]] for lr in axes[LR]]
        for s in axes[STUDENT]
    ]
    told = {
        "source": "CamVid, 160 photographs with labels, 48×64: benchmarks/search_curves.yaml",
        "students": axes[STUDENT],
        "lr": axes[LR],
        "weight": axes[WEIGHT],
        "miou": curves,
    }
    print(json.dumps(told, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
