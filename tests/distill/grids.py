"""NumPy building blocks of the losses' formulas, in float64 and independent of torch.

Shape legend: B batch, C channels, H W image size, h w size of a coarser grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

VOID = 255
Array = np.ndarray


@dataclass(frozen=True)
class Scene:
    """What a formula is computed from.

    Attributes:
        student, teacher: Feature maps by tap, and ``logits``, each of shape (B, C, h, w).
        labels_BHW: Class ids, 255 = void.
        parameters: What the loss has learnt, by its name in the module.
    """

    student: Mapping[str, Array]
    teacher: Mapping[str, Array]
    labels_BHW: Array
    parameters: Mapping[str, Array]

    @property
    def valid_BHW(self) -> Array:
        """Labelled pixels."""
        return self.labels_BHW != VOID


def softmax(x: Array, axis: int) -> Array:
    """Softmax along an axis."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def pooled(x_BCHW: Array, valid_BHW: Array, stride: int) -> tuple[Array, Array]:
    """Mean over the valid pixels of each cell of ``stride`` pixels, and which cells have one."""
    b, c, height, width = x_BCHW.shape
    h, w = -(-height // stride), -(-width // stride)
    out, any_valid = np.zeros((b, c, h, w)), np.zeros((b, h, w), bool)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                cell = np.s_[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
                mask = valid_BHW[n][cell]
                any_valid[n, i, j] = mask.any()
                if mask.any():
                    out[n, :, i, j] = x_BCHW[n][(slice(None), *cell)][:, mask].mean(1)
    return out, any_valid


def cells(length: int, count: int) -> list[slice]:
    """``count`` stretches that cover ``length`` and overlap where it does not divide."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def averaged(x: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling over the last two axes."""
    rows, columns = cells(x.shape[-2], size[0]), cells(x.shape[-1], size[1])
    return np.stack(
        [np.stack([x[..., r, c].mean((-2, -1)) for c in columns], -1) for r in rows], -2
    )


def share(valid_BHW: Array, size: tuple[int, int]) -> Array:
    """Share of labelled pixels under each cell of a coarser grid, of shape (B, h, w)."""
    return averaged(valid_BHW.astype(np.float64), size)


def resized(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear resizing of the last two axes between the centres of cells."""
    for axis, length in ((-2, size[0]), (-1, size[1])):
        old = x.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        shape = [1] * x.ndim
        shape[axis] = length
        part = (at - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def projected(scene: Scene, tap: str, index: int) -> Array:
    """Student features through the 1×1 projection of the tap, at the size of the teacher's."""
    x = scene.student[tap]
    weight = scene.parameters.get(f"projections.layers.{index}.weight")
    if weight is not None:
        x = np.einsum("dc,bchw->bdhw", weight[:, :, 0, 0], x)
    return resized(x, scene.teacher[tap].shape[-2:])


def unit(x: Array, axis: int) -> Array:
    """Vectors divided by their length."""
    return x / np.linalg.norm(x, axis=axis, keepdims=True)
