"""Inference in windows: a picture at its own resolution, looked at piece by piece. No torch.

Shape legend: H W picture size, h w window size, C RGB channels, K classes, N frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kdsweep.errors import ConfigError

Logits = Callable[[np.ndarray], np.ndarray]
"""From uint8 RGB of (N, h, w, C) to float32 class scores of (N, K, h, w)."""


@dataclass(frozen=True)
class Windows:
    """Windows that overlap.

    Attributes:
        size: Height and width of each.
        stride: Rows and columns from one to the next.
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def __str__(self) -> str:
        """Return it in words: ``windows of 512×1024 every 341×683``."""
        return "windows of {}×{} every {}×{}".format(*self.size, *self.stride)


Numbers = tuple[int, int]
# Scores of a larger window would not fit into memory.
_LONGEST_SIDE = 4096


def make_windows(size: Numbers | None, stride: Numbers | None = None) -> Windows | None:
    """Return checked windows; ``None`` is the whole image.

    Args:
        size: Height and width.
        stride: Rows and columns from one to the next; two thirds of the window if left out.

    Raises:
        ConfigError: Pixels would be left out between windows, or there is a stride alone.
    """
    if size is None:
        if stride is not None:
            raise ConfigError("a stride without a window", path=("stride",), value=list(stride))
        return None
    steps = (-(-2 * size[0] // 3), -(-2 * size[1] // 3)) if stride is None else stride
    if not (0 < steps[0] <= size[0] and 0 < steps[1] <= size[1]):
        raise ConfigError(
            "pixels between the windows would be left out",
            path=("stride",),
            value=list(steps),
            allowed=f"at least a pixel and at most the window, {size[0]},{size[1]}",
        )
    return Windows(size, steps)


def parse_windows(window: str | None, stride: str | None) -> Windows | None:
    """Read what a command line says: height and width as ``H,W``.

    Raises:
        ConfigError: As for :func:`make_windows`, or they are no such numbers.
    """
    return make_windows(_numbers("window", window), _numbers("stride", stride))


def _numbers(name: str, text: str | None) -> Numbers | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,5})\s*[,x×]\s*(\d{1,5})\s*", text)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= number <= _LONGEST_SIDE for number in numbers):
        raise ConfigError(
            f"no {name}",
            path=(name,),
            value=text,
            allowed=f"height and width in pixels, such as 512,1024, at most {_LONGEST_SIDE} each",
        )
    return numbers


def require_size(logits: Logits, windows: Windows) -> None:
    """Refuse windows of a size that a network, tried once, does not take.

    Raises:
        ConfigError: It does not take them.
    """
    height, width = windows.size
    reason = "its scores have another size"
    try:
        if logits(np.zeros((1, height, width, 3), np.uint8)).shape[2:] == windows.size:
            return
    except Exception as error:  # torch's and onnxruntime's errors share no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    raise ConfigError(
        f"this student does not take images of {height}×{width}: {reason}",
        path=("window",),
        value=f"{height},{width}",
        hint="multiples of 32 fit most networks; a graph of a fixed size takes that size only",
    )


def sliding_logits(logits: Logits, image_HWC: np.ndarray, windows: Windows) -> np.ndarray:
    """Class scores of a picture: in each pixel the mean over the windows that it is in.

    The last window of a row or column is moved inwards until it ends at the border. Where a picture
    is smaller than the window, it is continued in black below and to the right, as training crops
    are, and that is cut off again.

    Args:
        logits: Of frames of the window's size.
        image_HWC: uint8 RGB.
        windows: The windows.

    Returns:
        float32 of (K, H, W).
    """
    height, width = image_HWC.shape[:2]
    high, wide = windows.size
    below, right = max(high - height, 0), max(wide - width, 0)
    padded_HWC = np.pad(image_HWC, ((0, below), (0, right), (0, 0)))
    sums_KHW: np.ndarray | None = None
    times_HW = np.zeros(padded_HWC.shape[:2], np.float32)
    for top in starts(padded_HWC.shape[0], high, windows.stride[0]):
        for left in starts(padded_HWC.shape[1], wide, windows.stride[1]):
            here = (slice(top, top + high), slice(left, left + wide))
            found_Khw = logits(np.ascontiguousarray(padded_HWC[here])[None])[0]
            if sums_KHW is None:
                sums_KHW = np.zeros((len(found_Khw), *times_HW.shape), np.float32)
            sums_KHW[:, here[0], here[1]] += found_Khw
            times_HW[here] += 1
    assert sums_KHW is not None, "there is always one window"
    sums_KHW /= times_HW
    return sums_KHW[:, :height, :width]


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side that is at least as long as they are."""
    return [*range(0, length - window, stride), length - window]
