"""What the look through a data set costs, as a share of its first decode.

    python benchmarks/data_health.py camvid=PATH --pairs 5

Decodes everything into an empty cache, by turns with and without noting what is seen of each frame,
then looks through it. Files are read once before, so that the disk does not count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from unittest import mock

from kdsweep.config import load_job
from kdsweep.data import SegmentationData, open_data
from kdsweep.data.facts import SplitFacts
from kdsweep.data.health import look_through


def main() -> None:
    """Print medians and shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="SOURCE=PATH")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 512))
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()

    def decode() -> tuple[float, SegmentationData]:
        with tempfile.TemporaryDirectory() as cache:
            section = {"image_size": list(arguments.image_size), "cache": cache}
            job = {"data": section, "student": {}, "train": {"epochs": 1}}
            config = load_job(job, data=[arguments.data]).data
            began = time.perf_counter()
            data = open_data(config)
            return time.perf_counter() - began, data

    decode()
    with_notes, without, looks = [], [], []
    for _ in range(arguments.pairs):
        seconds, data = decode()
        with_notes.append(seconds)
        began = time.perf_counter()
        look_through(data)
        looks.append(time.perf_counter() - began)
        with mock.patch.object(SplitFacts, "note", return_value=None):
            without.append(decode()[0])
    bare = statistics.median(without)
    noting = statistics.median(a - b for a, b in zip(with_notes, without, strict=True))
    looking = statistics.median(looks)
    print(f"decoding alone {bare:.2f} s")
    print(f"noting contents, sizes and pixels: {noting:+.2f} s, {noting / bare:+.1%}")
    print(f"looking through: {looking:.2f} s, {looking / bare:.1%}")


if __name__ == "__main__":
    main()
