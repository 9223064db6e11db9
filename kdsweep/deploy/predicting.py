"""Predicting on files: palette masks and overlays, one frame in memory at a time. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdsweep.data.pictures import FrameError
from kdsweep.deploy.inputs import Input, find_inputs, frame_rate, read_frames
from kdsweep.deploy.model import DeployedModel
from kdsweep.deploy.windows import Windows, require_size
from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.training.samples import colourize, label_png

MASKS, OVERLAYS, CLASSES = "masks", "overlays", "classes.json"
_OPACITY = 0.5
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Predicted:
    """What :func:`predict` did.

    Attributes:
        out: The folder that was written.
        num_frames: Frames that have a mask.
        problems: A line for each input that was skipped or cut off.
    """

    out: Path
    num_frames: int
    problems: tuple[str, ...]


def predict(
    model: DeployedModel,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    overlay: bool = False,
    windows: Windows | None = None,
    begin: Callable[[list[Input]], None] = lambda found: None,
    advance: Callable[[Input], None] = lambda given: None,
) -> Predicted:
    """Write a mask of every frame of pictures, folders of pictures, and videos.

    Masks (``masks/``) are PNGs whose pixels are class ids and whose palette has the classes'
    colours, in the size of the picture. Of a video each frame has its own, in a folder.
    ``classes.json`` says which id is which class.

    Args:
        model: What :func:`~kdsweep.deploy.load` gave.
        inputs: Files and folders.
        out: Folder to write; new or empty.
        overlay: Whether to write pictures (JPEG) and videos (MP4) with the classes' colours laid
            over them too (``overlays/``).
        windows: Look at pictures at their own resolution in windows, instead of resizing them.
        begin: Called with the inputs that were found.
        advance: Called after each frame.

    Raises:
        ConfigError: There is nothing to predict on, the folder holds something, or the student does
            not take windows of this size.
        KdsweepError: The folder cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            "there is something in the folder to write to",
            path=("out",),
            value=str(out),
            allowed="a folder that is new or empty",
        )
    found, problems = find_inputs([Path(path).expanduser() for path in inputs])
    if not found:
        reasons = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"there is nothing to predict on{reasons}")
    if windows is not None:
        require_size(model.logits, windows)
    begin(found)
    num_frames = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CLASSES).write_text(_classes_json(model), encoding="utf-8")
        for given in found:
            writer = _Writer(model, given, out, overlay, windows)
            try:
                for image_HWC in read_frames(given, model.card.image_bits):
                    writer.write(image_HWC)
                    num_frames += 1
                    advance(given)
            except FrameError as problem:
                problems.append(problem)
            finally:
                writer.close()
    except OSError as error:
        raise KdsweepError(f"{out}: cannot be written ({error})") from error
    return Predicted(out, num_frames, tuple(str(problem) for problem in problems))


def overlaid(image_HWC: np.ndarray, labels_HW: np.ndarray, palette_KC: np.ndarray) -> np.ndarray:
    """A picture with its classes' colours laid over it.

    Args:
        image_HWC: uint8 RGB.
        labels_HW: Class ids.
        palette_KC: uint8 RGB of each class.
    """
    import cv2

    colours = colourize(labels_HW, palette_KC)
    return np.asarray(cv2.addWeighted(image_HWC, 1 - _OPACITY, colours, _OPACITY, 0))


class _Writer:
    """Writes what belongs to one input."""

    def __init__(
        self,
        model: DeployedModel,
        given: Input,
        out: Path,
        overlay: bool,
        windows: Windows | None,
    ) -> None:
        self._model, self._given, self._overlay = model, given, overlay
        self._windows = windows
        self._palette = np.array(model.card.palette, np.uint8)
        self._masks, self._overlays = out / MASKS, out / OVERLAYS
        self._video: Any = None
        self._count = 0

    def write(self, image_HWC: np.ndarray) -> None:
        labels_HW = self._model(image_HWC, self._windows)
        name = self._given.name
        if self._given.is_video:
            name = f"{name}/{self._count:06d}"
        self._count += 1
        mask = self._masks / f"{name}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(label_png(labels_HW, self._palette))
        if not self._overlay:
            return
        shown = overlaid(image_HWC, labels_HW, self._palette)
        if self._given.is_video:
            self._write_video(shown)
        else:
            self._write_picture(shown)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()

    def _write_picture(self, shown: np.ndarray) -> None:
        from PIL import Image

        path = self._overlays / f"{self._given.name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown).save(path, quality=_JPEG_QUALITY)

    def _write_video(self, shown: np.ndarray) -> None:
        import cv2

        if self._video is None:
            path = self._overlays / f"{self._given.name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = shown.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            rate = frame_rate(self._given)
            self._video = cv2.VideoWriter(str(path), codec, rate, (width, height))
            if not self._video.isOpened():
                raise KdsweepError(f"{path}: OpenCV cannot write this video")
        self._video.write(cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))


def _classes_json(model: DeployedModel) -> str:
    card = model.card
    listed = [
        {"id": k, "name": name, "colour": list(colour)}
        for k, (name, colour) in enumerate(zip(card.classes, card.palette, strict=True))
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
