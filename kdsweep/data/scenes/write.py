"""Writing scenes as files in the Lyft layout, on all cores.

Helping processes read a :class:`Task` as JSON from standard input and print a line for each scene
done. They are plain processes rather than ``multiprocessing``, because a user's script may start a
sweep without a ``__main__`` guard, and no threads, because a scene is mostly Python.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from kdsweep.data.scenes.scene import render

_SCENES_PER_PROCESS = 16
"""A process that draws fewer costs more to start than it saves."""


class Task(NamedTuple):
    """Scenes to draw.

    Attributes:
        folder: Where the parts go.
        seed: The generator's stream.
        size: (height, width) in pixels.
        scenes: Part and number in the stream of each scene.
    """

    folder: str
    seed: int
    size: tuple[int, int]
    scenes: Sequence[tuple[str, int]]


def write_scenes(task: Task, num_processes: int, done: Callable[[int], None]) -> None:
    """Draws and writes the scenes of a task, telling after each how many are done."""
    for part in {part for part, _ in task.scenes}:
        for kind in ("CameraRGB", "CameraSeg"):
            (Path(task.folder) / part / part / kind).mkdir(parents=True, exist_ok=True)
    count = min(num_processes, len(task.scenes) // _SCENES_PER_PROCESS)
    if count > 1:
        _share_out(task, count, done)
    # All of them if nobody helped, and whatever helpers that died have left.
    missing = [scene for scene in task.scenes if not image_path(task, *scene).exists()]
    num_done = len(task.scenes) - len(missing)
    for number, (part, index) in enumerate(missing, 1):
        write_scene(task, part, index)
        done(num_done + number)


def write_scene(task: Task, part: str, index: int) -> None:
    """Draws and writes one scene; its image appears last, and whole."""
    scene = render(task.seed, index, *task.size)
    label_image = np.zeros_like(scene.image)
    label_image[..., 0] = scene.labels
    path = image_path(task, part, index)
    _write_png(path.parent.with_name("CameraSeg") / path.name, label_image, level=1)
    _write_png(path, scene.image, level=0)


def image_path(task: Task, part: str, index: int) -> Path:
    """Where the picture of a scene goes."""
    return Path(task.folder) / part / part / "CameraRGB" / f"{part}_{index:06d}.png"


def _write_png(path: Path, pixels_HW3: np.ndarray, level: int) -> None:
    """Writes an RGB picture as PNG: no filter, one chunk.

    The general writers try out filters; without them, writing and reading take a tenth of the time.
    Noisy pictures hardly shrink anyway, so they are stored (level 0).
    """
    height, width = pixels_HW3.shape[:2]
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # the first byte of a line is its filter
    lines[:, 1:] = pixels_HW3.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), level)), (b"IEND", b""))
    code = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        code += struct.pack(">I", len(content)) + kind + content + checksum
    draft = path.with_suffix(".part")
    draft.write_bytes(code)
    draft.replace(path)


def _share_out(task: Task, count: int, done: Callable[[int], None]) -> None:
    """Has ``count`` processes draw, and waits for them."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    reader, writer = os.pipe()
    helpers: list[subprocess.Popen[bytes]] = []
    # One pipe for all of them: it ends when the last helper does.
    with os.fdopen(reader, "rb") as lines:
        try:
            for number in range(count):
                # A file rather than a pipe: a helper that dies at once cannot break it.
                with tempfile.TemporaryFile("w+") as order:
                    json.dump(task._replace(scenes=task.scenes[number::count]), order)
                    order.seek(0)
                    helpers.append(
                        subprocess.Popen(
                            [sys.executable, "-c", f"from {__name__} import main; main()"],
                            stdin=order,
                            stdout=writer,
                            stderr=subprocess.DEVNULL,
                            env=environment,
                        )
                    )
            os.close(writer)
            writer = -1
            for num_done, _ in enumerate(lines, 1):
                done(num_done)
        except FileNotFoundError:
            pass  # an embedded Python without a program of its own; the caller draws everything
        finally:
            if writer >= 0:
                os.close(writer)
            for helper in helpers:
                helper.kill()
                helper.wait()


def main() -> None:
    """Return what a helping process does."""
    folder, seed, size, scenes = json.load(sys.stdin)
    task = Task(folder, seed, tuple(size), scenes)
    cv2.setNumThreads(0)
    for part, index in scenes:
        write_scene(task, part, index)
        print(index, flush=True)
