"""The pictures and videos that are to be predicted on, each with a name for what is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdsweep.data.pairing import PICTURE_SUFFIXES, walk
from kdsweep.data.pictures import FrameError, read_rgb

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
_SUFFIXES = PICTURE_SUFFIXES | VIDEO_SUFFIXES
# Containers state the number of frames, some roughly.
_LEAST_SHARE_OF_VIDEO = 0.95


@dataclass(frozen=True)
class Input:
    """One picture or video, and the relative path without suffix of what is written for it."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it has many frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(given: Sequence[Path]) -> tuple[list[Input], list[FrameError]]:
    """The pictures and videos among files and folders.

    Folders are searched with all folders in them; what is neither picture nor video there, or
    hidden, is passed over.

    Returns:
        The inputs, each with a name of its own; and what was named but cannot be one.
    """
    found: list[Input] = []
    problems: list[FrameError] = []
    taken: set[str] = set()
    for path in given:
        if path.is_dir():
            files = sorted(file for file in walk(path) if file.suffix.lower() in _SUFFIXES)
            if not files:
                problems.append(FrameError(path, "holds neither pictures nor videos"))
            for file in files:
                name = file.relative_to(path).with_suffix("")
                # One folder keeps its own names; of several each gets a folder.
                stem = name if len(given) == 1 else Path(path.resolve().name) / name
                found.append(Input(file, _free_name(stem.as_posix(), file, taken)))
        elif not path.is_file():
            problems.append(FrameError(path, "is not there"))
        elif path.suffix.lower() not in _SUFFIXES:
            problems.append(FrameError(path, "is neither a picture nor a video by its name"))
        else:
            found.append(Input(path, _free_name(path.stem, path, taken)))
    return found, problems


def read_frames(given: Input, image_bits: int = 8) -> Iterator[np.ndarray]:
    """Yield the frames of an input, uint8 RGB.

    Args:
        given: The input.
        image_bits: Bits of a channel of pictures of 16 bits (``data.image_bits``).

    Raises:
        FrameError: The file cannot be decoded; a cut video after the frames that it has.
    """
    if given.is_video:
        yield from _video_frames(given.path)
    else:
        yield read_rgb(given.path, image_bits)


def count_frames(given: Input) -> int | None:
    """Frames of an input as its file states them; ``None`` if it does not."""
    if not given.is_video:
        return 1
    video = _open(given.path)
    try:
        return _stated(video)
    finally:
        video.release()


def frame_rate(given: Input) -> float:
    """Frames a second of a video, as its file states them; 25 if it does not."""
    import cv2

    video = _open(given.path)
    try:
        rate = float(video.get(cv2.CAP_PROP_FPS))
    finally:
        video.release()
    return rate if 0 < rate <= 1000 else 25.0


def _free_name(name: str, file: Path, taken: set[str]) -> str:
    """The name, with what tells it apart where it is taken (``a.png`` beside ``a.jpg``)."""
    candidate, number = name, 1
    while candidate.lower() in taken:  # some file systems take upper and lower case for the same
        candidate = f"{name}-{file.suffix[1:]}" + (f"-{number}" if number > 1 else "")
        number += 1
    taken.add(candidate.lower())
    return candidate


def _open(path: Path):  # type: ignore[no-untyped-def]  # cv2 comes without types
    import cv2

    # Damaged videos are named by us, once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return cv2.VideoCapture(str(path))


def _stated(video) -> int | None:  # type: ignore[no-untyped-def]
    import cv2

    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    import cv2

    video = _open(path)
    try:
        if not video.isOpened():
            raise FrameError(path, "is no video that can be decoded")
        stated, count = _stated(video), 0
        while True:
            there, frame_bgr = video.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if count == 0:
        raise FrameError(path, "has no frame that can be decoded")
    if stated is not None and count < _LEAST_SHARE_OF_VIDEO * stated:
        raise FrameError(path, f"is cut off: {count} of {stated} frames could be decoded")


def total_frames(found: list[Input]) -> int | None:
    """Return how many frames there are in all; ``None`` where a file does not state it."""
    total = 0
    for given in found:
        try:
            count = count_frames(given)
        except FrameError:
            count = 0
        if count is None:
            return None
        total += count
    return total
