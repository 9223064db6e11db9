"""Data: sources of labelled frames, the decode cache, augmentation and loaders.

``open_data`` turns the ``data:`` section of a job into decoded splits; ``TrainLoader`` and
``EvalLoader`` make batches of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kdsweep.config.data import SOURCES
from kdsweep.data.dataset import FrameCounts, SegmentationData, count_frames, open_data
from kdsweep.data.source import Progress
from kdsweep.data.sources.folder import listed_classes
from kdsweep.data.split import Split, class_frequencies
from kdsweep.labels import VOID

if TYPE_CHECKING:
    from kdsweep.data.loaders import Batch, EvalLoader, HostBatch, TrainLoader
    from kdsweep.data.unlabelled import UnlabelledBatch, UnlabelledLoader

__all__ = [
    "SOURCES",
    "VOID",
    "Batch",
    "EvalLoader",
    "FrameCounts",
    "HostBatch",
    "Progress",
    "SegmentationData",
    "Split",
    "TrainLoader",
    "UnlabelledBatch",
    "UnlabelledLoader",
    "class_frequencies",
    "count_frames",
    "listed_classes",
    "open_data",
]

_NEEDS_TORCH = {
    "Batch": "loaders",
    "EvalLoader": "loaders",
    "HostBatch": "loaders",
    "TrainLoader": "loaders",
    "UnlabelledBatch": "unlabelled",
    "UnlabelledLoader": "unlabelled",
}


def __getattr__(name: str) -> object:
    """Loads torch only for those who make batches: checking a data set does without."""
    if name in _NEEDS_TORCH:
        return getattr(import_module(f"kdsweep.data.{_NEEDS_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
