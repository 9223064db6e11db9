"""Tiny data sets in the published layouts, for the tests of the readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 16)
"""(height, width) of the frames."""


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture that differs from number to number, uint8 of (H, W, 3)."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def ids(number: int, num_classes: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask in 4×4 squares of ids, uint8 of (H, W)."""
    coarse = np.random.default_rng((1, number)).integers(
        0, num_classes, (-(-size[0] // 4), -(-size[1] // 4)), np.uint8
    )
    return coarse.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]


def save(path: Path, array: np.ndarray, palette: Sequence[int] | None = None) -> Path:
    """Writes a picture file; with a palette, one of indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


def lyft_part(folder: Path, stems: Sequence[str], first: int = 0) -> Path:
    """``CameraRGB`` and ``CameraSeg`` with these frames; the id is in the red channel."""
    for number, stem in enumerate(stems, first):
        save(folder / "CameraRGB" / f"{stem}.png", picture(number))
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[..., 0] = ids(number, 13)
        save(folder / "CameraSeg" / f"{stem}.png", mask)
    return folder


def camvid(root: Path, num_train: int = 4, num_val: int = 2, lists: bool = True) -> Path:
    """The SegNet layout, with the lists' foreign prefix."""
    for split, count in (("train", num_train), ("val", num_val)):
        lines = []
        for number in range(count):
            name = f"{split}_{number:03d}.png"
            save(root / split / name, picture(number))
            save(root / f"{split}annot" / name, ids(number, 12))
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        if lists:
            (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def cityscapes(root: Path, num_train: int = 3, num_val: int = 2) -> Path:
    """``leftImg8bit`` and ``gtFine`` with label ids."""
    for split, city, count in (("train", "aachen", num_train), ("val", "lindau", num_val)):
        for number in range(count):
            stem = f"{city}_{number:06d}_000019"
            save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", picture(number))
            save(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", ids(number, 34))
    return root


def folder(root: Path, stems: Sequence[str], num_classes: int = 3, classes: str = "") -> Path:
    """``images/`` (JPEG) and ``masks/``; ``classes`` becomes ``classes.yaml``."""
    for number, stem in enumerate(stems):
        save(root / "images" / f"{stem}.jpg", picture(number))
        save(root / "masks" / f"{stem}.png", ids(number, num_classes))
    if classes:
        (root / "classes.yaml").write_text(classes)
    return root
