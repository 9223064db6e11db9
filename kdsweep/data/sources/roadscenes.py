"""Generated driving scenes: the embedded default data.

The scenes are written once per machine as files in the Lyft layout, into the cache folder, and then
read by the reader of the real data set. The ego car's hood is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from kdsweep.config.data import RoadscenesData
from kdsweep.data import scenes
from kdsweep.data.cache import num_threads, once, writing_cache
from kdsweep.data.fingerprint import fingerprint
from kdsweep.data.scenes.dice import Dice
from kdsweep.data.scenes.stage import WEATHERS
from kdsweep.data.scenes.write import Task, write_scenes
from kdsweep.data.source import Frame, Progress, SplitName
from kdsweep.data.sources.lyft import LyftSource
from kdsweep.data.splitting import Parts

_FIRST: Mapping[SplitName, int] = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""Where in the generator's stream each split begins, so that more scenes change no other split."""


class RoadscenesSource(LyftSource):
    """Reads scenes that were written before.

    Args:
        root: Folder with the parts train, val and test.
        with_test: Whether there are test scenes.
        seed: Of the generator.
    """

    name = "roadscenes"
    embedded = True
    notice = "roadscenes is generated: its scores say nothing about real roads"
    layout = """
train/train/CameraRGB/train_000000.png   train/train/CameraSeg/train_000000.png
val/val/…                                test/test/…
"""

    def __init__(self, root: Path, *, with_test: bool, seed: int) -> None:
        rule = Parts(("train",), ("val",), ("test",) if with_test else ())
        super().__init__(root, hood_void=False, merge_road_lines=False, split=rule)
        self._seed = seed

    @override
    def recording(self, frame: Frame) -> str:
        return weather(self._seed, frame)


def weather(seed: int, frame: Frame) -> str:
    """Return the weather of a scene, which is what tells recordings apart here."""
    # The first thing that is drawn for a scene.
    return Dice(seed, int(frame.name.rpartition("_")[2])).weighted(WEATHERS)


def expected(config: RoadscenesData) -> dict[SplitName, list[Frame]]:
    """Return the frames of scenes that need not have been drawn yet."""
    counts = {"train": config.num_scenes, "val": config.val_scenes, "test": config.test_scenes}
    return {
        split: [Frame(f"{split}/{split}_{first + i:06d}", Path(), Path(split)) for i in range(num)]
        for (split, first), num in zip(_FIRST.items(), counts.values(), strict=True)
    }


def build(config: RoadscenesData, cache: Path, progress: Progress | None) -> RoadscenesSource:
    """The source that a config describes; its files are written if they are not there."""
    counts: dict[SplitName, int] = {
        "train": config.num_scenes,
        "val": config.val_scenes,
        "test": config.test_scenes,
    }
    key = fingerprint(
        {
            "stream": scenes.STREAM_VERSION,
            "seed": config.seed,
            "size": list(config.scene_size),
            "scenes": counts,
        }
    )
    home = cache / "roadscenes"
    folder = home / key
    if not folder.is_dir():
        with writing_cache(home), once(folder) as draft:
            if draft is not None:
                listed = [
                    (part, _FIRST[part] + number)
                    for part, count in counts.items()
                    for number in range(count)
                ]

                def done(count: int) -> None:
                    if progress is not None:
                        progress("drawing roadscenes", count, len(listed))

                task = Task(str(draft), config.seed, config.scene_size, listed)
                write_scenes(task, num_threads(), done)
    return RoadscenesSource(folder, with_test=config.test_scenes > 0, seed=config.seed)
