"""A source of pairs of files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdsweep.data.classes_file import default_palette
from kdsweep.data.source import Frame, Source, SplitName, id_table, lookup, required_folder
from kdsweep_extra.keys import PairsData


class PairsSource(Source):
    """Reads ``NAME_image.png`` with ``NAME_labels.png``, 8-bit class ids and 255 for void."""

    name = "pairs"
    layout = "0001_image.png  0001_labels.png"

    def __init__(self, root: Path, classes: tuple[str, ...], every: int) -> None:
        self.root, self.classes, self._every = root, classes, every
        self.palette = default_palette(len(classes))

    def splits(self) -> Mapping[SplitName, list[Frame]]:
        """See :meth:`Source.splits`."""
        ends = ("_image.png", "_labels.png")
        names = sorted(path.name.removesuffix(ends[0]) for path in self.root.glob(f"*{ends[0]}"))
        frames = [Frame(name, *(self.root / f"{name}{end}" for end in ends)) for name in names]
        train = [frame for index, frame in enumerate(frames) if index % self._every]
        return {"train": train, "val": frames[:: self._every]}

    def labels_from(self, mask: np.ndarray) -> np.ndarray:
        """See :meth:`Source.labels_from`."""
        return lookup(mask, id_table(len(self.classes)))


def build(config: PairsData, cache: Path, progress: object) -> PairsSource:
    """Return the source that a ``data:`` section describes."""
    return PairsSource(required_folder(config.path, PairsSource), config.names, config.every)
