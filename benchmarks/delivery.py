"""What it costs where a worker does not see the experiment's folder: bytes and seconds an epoch.

The same cohort trains for a few epochs in a worker of Ray, once in the experiment's folder and once
in a folder of its own, from which Ray carries what has changed after each epoch
(``kdsweep/ledger/depot.py``). Both are on this machine, so the network itself costs nothing: what
is measured is reading, sending through Ray's object store, and writing once more. Run::

    python benchmarks/delivery.py --height 32 --width 48 --epochs 3
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import arguments, finish, network_arguments, ratio


def train(job: str, folder: str, way: dict[str, Any] | None, name: str) -> list[dict[str, float]]:
    """Train, and return of each epoch its seconds, those of handing it over, and the bytes."""
    import torch

    from kdsweep.config import Job
    from kdsweep.sweep.ray.delivery import Way, workplace
    from kdsweep.trial import run_jobs

    torch.set_num_threads(1)
    rows = []
    there = None if way is None else Way.from_json(way)
    with workplace([folder], folder, name, there) as here:
        began = time.perf_counter()
        epochs = run_jobs([Job.model_validate_json(job)], here.folders, cohort_dir=here.cohort_dir)
        for _ in epochs:
            trained = time.perf_counter()
            num_bytes = here.deliver()
            ended = time.perf_counter()
            rows.append(
                {"epoch": ended - began, "delivery": ended - trained, "bytes": float(num_bytes)}
            )
            began = ended
    return rows


def main() -> int:
    """Train both ways, in turns."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=16)
    options = parser.parse_args()
    import ray

    from kdsweep.config import load_job
    from kdsweep.ledger import Experiment
    from kdsweep.sweep.ray import bridge
    from kdsweep.sweep.ray.delivery import open_depot
    from kdsweep.sweep.ray.survey import Word

    job = load_job(
        {
            "data": {
                "source": "roadscenes",
                "image_size": [options.height, options.width],
                **{"scenes": options.scenes, "val_scenes": 8, "test_scenes": 0},
            },
            "teacher": {"encoder": options.teacher},
            "student": {"encoder": options.student},
            "distill": {"pixel_kl": {}},
            "train": {"epochs": options.epochs, "batch_size": options.batch_size},
        }
    )
    text = json.dumps(job.model_dump(mode="json"))
    found: dict[str, list[dict[str, float]]] = {"in place": [], "delivered": []}
    with (
        bridge.environment(),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root,
    ):
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        experiment = Experiment(Path(root))
        experiment.trials.mkdir()
        out_of_sight = Word(str(Path(root) / "nowhere"), "0" * 32)
        worker = ray.remote(num_cpus=1)(train)
        with open_depot(experiment, out_of_sight) as way:
            for number in range(options.rounds):
                for place, (kind, told) in enumerate((("in place", None), ("delivered", way))):
                    folder = str(experiment.trial(2 * number + place).path)
                    given = None if told is None else told.to_json()
                    rows = ray.get(worker.remote(text, folder, given, f"1-{number}{place}"))
                    found[kind] += rows[1:]  # the first epoch builds the networks
        ray.shutdown()
    delivered = found["delivered"]
    megabytes = statistics.median(row["bytes"] for row in delivered) / 1e6
    seconds = statistics.median(row["delivery"] for row in delivered)
    in_place, sent = ([row["epoch"] for row in found[kind]] for kind in ("in place", "delivered"))
    finish(
        options,
        {"in place / delivered, an epoch": ratio(in_place, sent)},
        {"megabytes": megabytes, "seconds": seconds, **found},
        [
            f"{megabytes:.0f} MB an epoch, handed over in {seconds:.2f} s",
            f"an epoch takes {statistics.median(in_place):.2f} s in place",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
