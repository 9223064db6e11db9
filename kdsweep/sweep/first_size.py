"""Image size, epochs and trials of a first search space, by measured steps and some hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kdsweep.config import load_space
from kdsweep.errors import ConfigError
from kdsweep.ledger.layout import EXPERIMENTS
from kdsweep.sweep.hours import HoursPlan, TooFewHoursError, plan_hours
from kdsweep.sweep.outcome import duration
from kdsweep.sweep.preview import Preview
from kdsweep.user_folders import nearest_existing

_STRIDE, _SHORTEST = 32, 64
_MOST_TRIES = 4
# With less than these a sweep shows nothing.
_LEAST_EPOCHS, _LEAST_TRIALS = 5, 4
_FEWER = 0.4


def fit(
    tree: dict[str, Any], hours: float, say: Callable[[str], None], *, fixed_size: bool
) -> list[str]:
    """Time steps, set image size, epochs, trials and students per teacher, and say which.

    Args:
        tree: The space, with the values that are best where time does not matter.
        hours: In which its sweep is to end.
        say: Called with what is being done.
        fixed_size: Whether the image size stays.

    Raises:
        ConfigError: The hours are too few for the least epochs and trials.
        KdsweepError: Steps could not be measured.
    """
    native = tuple(tree["data"]["image_size"])
    disk = nearest_existing(Path(EXPERIMENTS))  # where the sweep will write, and `plan` measures
    best = tree["train"]["epochs"]
    for number in range(_MOST_TRIES):
        height, width = tree["data"]["image_size"]
        say(f"timing a few steps of {height}×{width} pixels")
        try:
            plan, shown = plan_hours(load_space(tree), hours, scratch=disk)
        except TooFewHoursError as error:
            shape = _for_share(native, (height, width), hours / error.needed_hours)
            if fixed_size or shape is None or number == _MOST_TRIES - 1:
                plan, shown = _shorter(tree, hours, error, fixed_size=fixed_size)
            else:
                tree["data"]["image_size"] = list(shape)
                continue
        if shown.packed is None or not shown.packed.cannot_fit:
            break
        tree["train"]["batch_size"] = max(1, tree["train"]["batch_size"] // 2)
    _set_epochs(tree, plan.space.tree["train"]["epochs"])
    tree["sweep"]["trials"] = plan.space.sweep.trials
    tree["sweep"]["students_per_teacher"] = plan.space.sweep.students_per_teacher
    return [plan.lines[0], *_given_up(tree, best)]


def _set_epochs(tree: dict[str, Any], epochs: int) -> None:
    tree["train"]["epochs"] = epochs
    if "head_start_epochs" in tree["distill"]:  # a teacher that trains first, for as long
        tree["distill"]["head_start_epochs"] = epochs


def _shorter(
    tree: dict[str, Any], hours: float, error: TooFewHoursError, *, fixed_size: bool
) -> tuple[HoursPlan, Preview]:
    """Lower the epochs, then the trials, until they fit into the hours."""
    while True:
        epochs = tree["train"]["epochs"]
        is_least = epochs <= _LEAST_EPOCHS
        epochs = min(epochs, max(_LEAST_EPOCHS, math.floor(_FEWER * epochs)))
        _set_epochs(tree, epochs)
        set_ = [f"train.epochs={epochs}", *([f"sweep.trials={_LEAST_TRIALS}"] if is_least else [])]
        try:
            return plan_hours(load_space(tree, set_), hours, after=error)
        except TooFewHoursError as still:
            error = still
        if is_least:
            height, width = tree["data"]["image_size"]
            raise ConfigError(
                f"too few hours: even {_LEAST_TRIALS} trials of {epochs} epochs on images of "
                f"{height}×{width} take {duration(3600 * error.needed_hours)} on this machine",
                value=f"--hours {hours:g}",
                allowed=f"at least --hours {math.ceil(100 * error.needed_hours) / 100:g}",
                hint=("a smaller --image-size, or " if fixed_size else "")
                + "fewer frames: --set data.num_train=200",
            ) from None


def _given_up(tree: dict[str, Any], best: int) -> Iterator[str]:
    """What was chosen, and given up for the hours, in words."""
    epochs, trials = tree["train"]["epochs"], tree["sweep"]["trials"]
    if epochs < best:
        yield f"{epochs} epochs, not {best}: the hours allow no more, so scores will be lower"
    else:
        yield f"{epochs} epochs, which is enough for most data sets"
    if trials <= _LEAST_TRIALS:
        yield f"{trials} trials are few: they show that all works, but are no real choice"


def _for_share(
    native: Sequence[int], size: tuple[int, int], share: float
) -> tuple[int, int] | None:
    """A smaller size with at most this share of the pixels; ``None`` below what is worth a try."""
    # A step has costs that do not shrink with the image.
    wanted = 0.8 * share * size[0] * size[1]
    for long_side in range(max(size) - _STRIDE, _STRIDE, -_STRIDE):
        height, width = smaller(native, long_side)
        if min(height, width) < _SHORTEST:
            return None
        if height * width <= wanted:
            return height, width
    return None


def smaller(size: Sequence[int], long_side: int) -> list[int]:
    """Return a size of the same shape, in multiples of 32, whose long side is at most this."""
    scale = min(1.0, long_side / max(size))
    return [max(1, round(side * scale / _STRIDE)) * _STRIDE for side in size]
