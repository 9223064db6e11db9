"""Formulas of the losses on logits, and of the two oldest ones on features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from grids import VOID, Array, Scene, pooled, projected, resized, share, softmax, unit


def kl(p: Array, q: Array, axis: int) -> Array:
    """KL divergence of q from p along an axis."""
    return (p * np.log(p / q)).sum(axis)


def pixel_kl(scene: Scene, temperature: float, stride: int = 1, standardize: bool = False) -> float:
    """Mean over valid cells."""
    s, mask = pooled(scene.student["logits"], scene.valid_BHW, stride)
    t, _ = pooled(scene.teacher["logits"], scene.valid_BHW, stride)
    if standardize:
        s, t = (
            (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-8) for z in (s, t)
        )
    return (
        temperature**2
        * kl(softmax(t / temperature, 1), softmax(s / temperature, 1), 1)[mask].mean()
    )


def mutual(scene: Scene, temperature: float, stride: int = 1) -> float:
    """What the student learns."""
    return pixel_kl(scene, temperature, stride)


def rows(scene: Scene, temperature: float, stride: int) -> tuple[Array, Array, Array]:
    """Probabilities of student and teacher in every valid cell, (N, K), and where those are."""
    s, mask = pooled(scene.student["logits"], scene.valid_BHW, stride)
    t, _ = pooled(scene.teacher["logits"], scene.valid_BHW, stride)
    s_NK, t_NK = (np.moveaxis(softmax(z / temperature, 1), 1, -1)[mask] for z in (s, t))
    return s_NK, t_NK, mask


def dist(
    scene: Scene, temperature: float, beta: float = 1.0, gamma: float = 1.0, stride: int = 8
) -> float:
    """Means over valid cells and over classes."""
    s_NK, t_NK, _ = rows(scene, temperature, stride)
    inter = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(s_NK, t_NK, strict=True)])
    intra = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(s_NK.T, t_NK.T, strict=True)])
    return temperature**2 * (beta * inter + gamma * intra)


def dkd(
    scene: Scene, temperature: float, alpha: float = 1.0, beta: float = 2.0, stride: int = 1
) -> float:
    """Mean over valid cells, each with the class that is most frequent in it."""
    s_NK, t_NK, mask = rows(scene, temperature, stride)
    total = 0.0
    for p, q, (n, i, j) in zip(t_NK, s_NK, np.argwhere(mask), strict=True):
        cell = scene.labels_BHW[n, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        y = np.bincount(cell[cell != VOID]).argmax()
        p_b, q_b = np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]])
        p_o, q_o = np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y])
        total += alpha * kl(p_b, q_b, 0) + beta * kl(p_o, q_o, 0)
    return temperature**2 * total / len(s_NK)


def channel_wise(
    scene: Scene, temperature: float, stride: int = 8, taps: Sequence[str] = ("logits",)
) -> float:
    """Mean over channels and over images with a label."""
    total = 0.0
    for index, tap in enumerate(taps):
        if tap == "logits":
            s_map, mask = pooled(scene.student["logits"], scene.valid_BHW, stride)
            t_map, _ = pooled(scene.teacher["logits"], scene.valid_BHW, stride)
        else:
            s_map, t_map = projected(scene, tap, index), scene.teacher[tap]
            mask = share(scene.valid_BHW, t_map.shape[-2:]) > 0
        values = [
            kl(softmax(t[:, m] / temperature, 1), softmax(s[:, m] / temperature, 1), 1).mean()
            for s, t, m in zip(s_map, t_map, mask, strict=True)
            if m.any()
        ]
        total += temperature**2 * np.mean(values)
    return total


def hint(scene: Scene, taps: Sequence[str], normalize: bool = False) -> float:
    """Mean over channels and, by their share of labelled pixels, positions."""
    total = 0.0
    for index, tap in enumerate(taps):
        a, b = projected(scene, tap, index), scene.teacher[tap]
        if normalize:
            a, b = unit(a, 1), unit(b, 1)
        squared = ((a - b) ** 2).sum(1) if normalize else ((a - b) ** 2).mean(1)
        weight = share(scene.valid_BHW, b.shape[-2:])
        total += (squared * weight).sum() / weight.sum()
    return total


def attention(scene: Scene, taps: Sequence[str]) -> float:
    """Mean over positions and over images with a label."""
    total = 0.0
    for tap in taps:
        size = scene.teacher[tap].shape[-2:]
        weight = share(scene.valid_BHW, size)
        energies = [resized((f[tap] ** 2).mean(1), size) for f in (scene.student, scene.teacher)]
        labelled = weight.any((1, 2))
        a, b = (unit((e * weight)[labelled].reshape(labelled.sum(), -1), 1) for e in energies)
        total += ((a - b) ** 2).mean()
    return total


EXPECTED: dict[str, Callable[..., float]] = {
    "pixel_kl": pixel_kl,
    "channel_wise": channel_wise,
    "dist": dist,
    "dkd": dkd,
    "mutual": mutual,
    "hint": hint,
    "attention": attention,
}
