"""Training frames with labels and without: from a user's folder, or by leaving labels unused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kdsweep.config.data import BaseDataConfig
from kdsweep.data.pairing import picture_files
from kdsweep.data.source import Frame
from kdsweep.data.splitting import evenly_spaced
from kdsweep.errors import ConfigError, DataError, did_you_mean


def part_with_labels(
    config: BaseDataConfig,
    recording: Callable[[Frame], str],
    frames: Sequence[Frame],
    with_masks: Iterable[Frame],
) -> tuple[list[Frame], list[Frame]]:
    """Return the training frames that keep their labels, and all frames without labels.

    ``all_labels`` is not looked at.

    Args:
        config: The ``data:`` section.
        recording: Tells which recording a frame is from.
        frames: The training frames, all with labels.
        with_masks: Frames that do not count as unlabelled, though their folder is named so.

    Raises:
        ConfigError: It names a recording that the data set does not have, or keeps all labels.
        DataError: The folder of unlabelled pictures is not there, or holds none.
    """
    kept = list(frames)
    if config.labelled is not None:
        recordings = list(dict.fromkeys(map(recording, frames)))
        for place, name in enumerate(config.labelled.recordings):
            if name not in recordings:
                raise ConfigError(
                    f"no such recording among the {len(frames)} training frames",
                    path=("data", "labelled", "recordings", place),
                    value=name,
                    allowed=recordings[:20],
                    hint=did_you_mean(name, recordings),
                )
        kept = [f for f in kept if recording(f) in config.labelled.recordings]
    kept = evenly_spaced(kept, config.most_labelled(len(kept)))
    names = {frame.name for frame in kept}
    others = [frame.without_labels() for frame in frames if frame.name not in names]
    if config.unlabelled is not None:
        others += _pictures(Path(config.unlabelled).expanduser(), with_masks)
    if config.has_unlabelled and not others:
        key = "labelled" if config.labelled is not None else "num_labelled"
        raise ConfigError(
            f"this keeps the labels of all {len(frames)} training frames",
            path=("data", key),
            allowed="fewer, or null",
        )
    return kept, others


def _pictures(folder: Path, with_masks: Iterable[Frame]) -> list[Frame]:
    found = picture_files(folder) if folder.is_dir() else {}
    labelled = {frame.image.resolve() for frame in with_masks}
    others = {name: path for name, path in found.items() if path.resolve() not in labelled}
    if not others:
        what = "holds no pictures" + (" without a mask" if found else "")
        raise DataError(
            f"unlabelled frames: {folder} {what if folder.is_dir() else 'is not a folder'}\n"
            "  allowed: a folder of pictures (png, jpg, …), also in subfolders\n"
            "  try:     correct data.unlabelled, or leave it out"
        )
    return [Frame(f"unlabelled/{name}", path, path) for name, path in others.items()]
