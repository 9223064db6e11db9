"""A data set and a job that train in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kdsweep.config import load_job
from kdsweep.config.job import Job

SMALL = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}


def write_data(root: Path) -> Path:
    """Twelve frames whose class is written in their colour."""
    rng = np.random.default_rng(0)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for index in range(12):
        mask = rng.integers(0, 3, (4, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        image = (colours[mask] + rng.integers(-40, 40, (32, 32, 3))).astype(np.uint8)
        mask[:2] = 255
        cv2.imwrite(str(root / "images" / f"{index:03d}.png"), image[..., ::-1])
        cv2.imwrite(str(root / "masks" / f"{index:03d}.png"), mask)
    (root / "classes.yaml").write_text("names: [red, green, blue]\n")
    return root


def make_job(data: Path, cache: Path, **changes: Any) -> Job:
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {
            "source": "folder",
            "path": str(data),
            "image_size": [32, 32],
            "split": {"val": 0.34, "block": 2},
            "cache": str(cache / "cache"),
        },
        "teacher": {"encoder": "resnet18", "options": SMALL},
        "student": {"encoder": "mobilenet_v2", "options": SMALL},
        "distill": {"pixel_kl": {"weight": 1.0}, "hint": {"weight": 0.1, "taps": ["encoder.2"]}},
        "train": {"epochs": 3, "batch_size": 4, "lr": 3e-3},
    }
    return load_job(tree | changes)
