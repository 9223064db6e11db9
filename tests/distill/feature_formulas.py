"""Formulas of the losses on features.

Shape legend: B batch, C channels, h w feature map size, N nodes or positions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from grids import Array, Scene, averaged, projected, resized, share, softmax, unit
from loss_cases import SEED
from scipy.signal import correlate2d


def at_teachers_size(scene: Scene, tap: str) -> Array:
    """Student features as they are, at the size of the teacher's."""
    return resized(scene.student[tap], scene.teacher[tap].shape[-2:])


def nodes(x_BChw: Array, weight_Bhw: Array, max_side: int) -> list[tuple[Array, Array]]:
    """For each image unit features (N, C) and weights (N,) of the nodes that have a label."""
    h, w = weight_Bhw.shape[1:]
    cell = int(np.ceil(max(h, w) / max_side))
    found = []
    for x_Chw, weight_hw in zip(x_BChw, weight_Bhw, strict=True):
        features, weights = [], []
        for i in range(0, h, cell):
            for j in range(0, w, cell):
                inside = weight_hw[i : i + cell, j : j + cell]
                if inside.any():
                    values = x_Chw[:, i : i + cell, j : j + cell]
                    features.append((values * inside).sum((1, 2)) / inside.sum())
                    weights.append(inside.mean())
        found.append((unit(np.array(features).reshape(-1, len(x_Chw)), 1), np.array(weights)))
    return found


def pairwise(scene: Scene, taps: Sequence[str], max_side: int = 32) -> float:
    """Mean over pairs of nodes by the product of their weights."""
    total = 0.0
    for tap in taps:
        weight_Bhw = share(scene.valid_BHW, scene.teacher[tap].shape[-2:])
        s_nodes = nodes(at_teachers_size(scene, tap), weight_Bhw, max_side)
        t_nodes = nodes(scene.teacher[tap], weight_Bhw, max_side)
        summed = weights = 0.0
        for (s, weight), (t, _) in zip(s_nodes, t_nodes, strict=True):
            for n in range(len(weight)):
                for m in range(len(weight)):
                    both = weight[n] * weight[m]
                    summed += both * (s[n] @ s[m] - t[n] @ t[m]) ** 2
                    weights += both
        total += summed / weights
    return total


def ifvd(scene: Scene, taps: Sequence[str]) -> float:
    """Mean over positions and the classes under them, image by image."""
    total = 0.0
    num_classes = scene.student["logits"].shape[1]
    for tap in taps:
        maps = (at_teachers_size(scene, tap), scene.teacher[tap])
        summed = weights = 0.0
        for k in range(num_classes):
            shares_Bhw = share(scene.labels_BHW == k, maps[1].shape[-2:])
            for image, share_hw in enumerate(shares_Bhw):
                if not share_hw.any():
                    continue
                cosines = []
                for x_BChw in maps:
                    x_CN, share_N = x_BChw[image].reshape(x_BChw.shape[1], -1), share_hw.ravel()
                    x_CN = x_CN[:, share_N > 0]
                    prototype_C = np.average(x_CN, axis=1, weights=share_N[share_N > 0])
                    cosines.append(unit(prototype_C, 0) @ unit(x_CN, 0))
                gap_N = cosines[0] - cosines[1]
                summed += (share_hw[share_hw > 0] * gap_N**2).sum()
                weights += share_hw.sum()
        total += summed / weights
    return total


def cross_image(scene: Scene, temperature: float, taps: Sequence[str], max_side: int = 12) -> float:
    """Mean over rows by weight, then over pairs of images with a label."""
    total = 0.0
    for tap in taps:
        weight_Bhw = share(scene.valid_BHW, scene.teacher[tap].shape[-2:])
        s_nodes = nodes(at_teachers_size(scene, tap), weight_Bhw, max_side)
        t_nodes = nodes(scene.teacher[tap], weight_Bhw, max_side)
        labelled = [a for a, (_, weight) in enumerate(s_nodes) if len(weight)]
        values = []
        for a in labelled:
            for d in labelled:
                q = softmax(s_nodes[a][0] @ s_nodes[d][0].T / temperature, 1)
                p = softmax(t_nodes[a][0] @ t_nodes[d][0].T / temperature, 1)
                rows = (p * np.log(p / q)).sum(1)
                values.append(np.average(rows, weights=s_nodes[a][1]))
        total += np.mean(values)
    return total


def correlation(scene: Scene, taps: Sequence[str]) -> float:
    """``½ (var_s' + var_t') − cov'`` of channels scaled by their deviations, averaged."""
    total = 0.0
    for index, tap in enumerate(taps):
        s, t = projected(scene, tap, index), scene.teacher[tap]
        weight_N = share(scene.valid_BHW, t.shape[-2:]).ravel()
        channels = []
        for c in range(t.shape[1]):
            (var_s, cov), (_, var_t) = np.cov(
                s[:, c].ravel(), t[:, c].ravel(), aweights=weight_N, ddof=0
            )
            sd_s, sd_t = np.sqrt(var_s + 1e-6), np.sqrt(var_t + 1e-6)
            channels.append(0.5 * (var_s / sd_s**2 + var_t / sd_t**2) - cov / (sd_s * sd_t))
        total += np.mean(channels)
    return total


def convolved(scene: Scene, name: str, x_BChw: Array) -> Array:
    """A convolution of the module with its bias, zeros around the map."""
    weight_DCkk, bias_D = (scene.parameters[f"{name}.{part}"] for part in ("weight", "bias"))
    return np.stack(
        [
            [
                bias + sum(correlate2d(x, k, "same") for x, k in zip(x_Chw, kernels, strict=True))
                for kernels, bias in zip(weight_DCkk, bias_D, strict=True)
            ]
            for x_Chw in x_BChw
        ]
    )


def masked(scene: Scene, taps: Sequence[str], mask_ratio: float = 0.75) -> float:
    """Sum over channels, mean over positions by weight."""
    torch.manual_seed(SEED)  # the mask is the first thing that a forward pass draws
    total = 0.0
    for index, tap in enumerate(taps):
        s, t = projected(scene, tap, index), scene.teacher[tap]
        weight = share(scene.valid_BHW, t.shape[-2:])
        seen = (torch.rand(weight.shape).numpy() >= mask_ratio) & (weight > 0)
        hidden = convolved(scene, f"generators.{index}.0", s * seen[:, None])
        generated = convolved(scene, f"generators.{index}.2", np.maximum(hidden, 0))
        total += np.average(((generated - t) ** 2).sum(1), weights=weight)
    return total


def review(scene: Scene, taps: Sequence[str], width: int = 64) -> float:
    """Sum over taps of the hierarchical context loss of the fused features."""
    total = 0.0
    deeper: Array | None = None
    for index in reversed(range(len(taps))):
        s, t = scene.student[taps[index]], scene.teacher[taps[index]]
        seen = share(scene.valid_BHW, s.shape[-2:]) > 0
        fused = convolved(scene, f"fusions.{index}.reduce", s * seen[:, None])
        assert fused.shape[1] == width
        if deeper is not None:
            rows, columns = (
                np.arange(new) * old // new
                for new, old in zip(s.shape[-2:], deeper.shape[-2:], strict=True)
            )
            deeper = deeper[:, :, rows][..., columns]
            both = np.concatenate([fused, deeper], 1)
            maps = 1 / (1 + np.exp(-convolved(scene, f"fusions.{index}.attend", both)))
            fused = maps[:, :1] * fused + maps[:, 1:] * deeper
        deeper = fused
        output = resized(convolved(scene, f"fusions.{index}.expand", fused), t.shape[-2:])
        total += context_distance(output, t, share(scene.valid_BHW, t.shape[-2:]))
    return total


def context_distance(s: Array, t: Array, weight: Array) -> float:
    """Weighted mean squares of the full and the averaged maps, each level half as important."""
    shorter = min(t.shape[-2:])
    sizes = [t.shape[-2:]]
    sizes += [
        tuple(round(n * side / shorter) for side in t.shape[-2:]) for n in (4, 2, 1) if n < shorter
    ]
    parts, factors = [], []
    for level, size in enumerate(sizes):
        cell_weight = averaged(weight, size)
        with np.errstate(invalid="ignore"):
            s_mean, t_mean = (
                averaged(x * weight[:, None], size) / cell_weight[:, None] for x in (s, t)
            )
        squares = ((s_mean - t_mean) ** 2).mean(1)
        labelled = cell_weight > 0
        parts.append(np.average(squares[labelled], weights=cell_weight[labelled]))
        factors.append(0.5**level)
    return float(np.average(parts, weights=factors))


EXPECTED: dict[str, Callable[..., float]] = {
    "pairwise": pairwise,
    "ifvd": ifvd,
    "cross_image": cross_image,
    "correlation": correlation,
    "masked": masked,
    "review": review,
}
