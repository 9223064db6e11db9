"""How often labels that were moved are noticed, and how often labels that fit are called moved.

    python benchmarks/label_fit.py camvid=PATH

Random sets of 60, 24 and 12 training frames; of each the labels as they are and moved in every way
that is looked for, with all classes and with each class alone against the rest.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np

from kdsweep.config import load_job
from kdsweep.data import Split, open_data
from kdsweep.data.fit import MOVES, OTHERS, fits_of, misfit
from kdsweep.labels import VOID

_BACK = {"down": "up", "up": "down", "left": "right", "right": "left", "in": "out", "out": "in"}


def expected(move: str) -> str:
    """Return what should be said of labels that were moved so."""
    words = move.split()
    back = move if "upside" in words else " ".join(_BACK.get(word, word) for word in words)
    return f"their images better {back}"


def main() -> None:
    """Print a line for each number of frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="SOURCE=PATH")
    parser.add_argument("--repeats", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        tree = {"image_size": [96, 128], "cache": cache}
        job = {"data": tree, "student": {}, "train": {"epochs": 1}}
        data = open_data(load_job(job, data=[arguments.data]).data)
        train, num_classes = data.train, data.num_classes
        rng = np.random.default_rng(0)
        for num_frames in (60, 24, 12):
            named = other = silent = 0
            false_alarms = {"all classes": 0, "one class": 0}
            singles = 0
            for _ in range(arguments.repeats):
                chosen = np.sort(rng.choice(len(train), num_frames, replace=False))
                images = np.array(train.images_NHWC[chosen])
                labels = np.array(train.labels_NHW[chosen])

                def said(labels: np.ndarray, images: np.ndarray = images) -> str | None:
                    fits = fits_of(Split(images, labels, ("",) * len(images)), num_classes)
                    assert fits is not None
                    return misfit(fits)

                false_alarms["all classes"] += said(labels) is not None
                for k in range(num_classes):
                    one = np.where(labels == VOID, VOID, (labels == k).astype(np.uint8))
                    if (labels == k).any((1, 2)).sum() >= num_frames / 2:
                        singles += 1
                        false_alarms["one class"] += said(one) is not None
                for name, move in MOVES.items():
                    found = said(move(labels))
                    right = found == expected(name) or (name == OTHERS and found is not None)
                    named += right
                    silent += found is None
                    other += found is not None and not right
            total = arguments.repeats * len(MOVES)
            print(
                f"{num_frames} frames: of {total} moved sets {named} named, {other} called "
                f"something else, {silent} not noticed; false alarms: all classes "
                f"{false_alarms['all classes']} of {arguments.repeats}, one class "
                f"{false_alarms['one class']} of {singles}"
            )


if __name__ == "__main__":
    main()
