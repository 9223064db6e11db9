"""Classes of masks that come without a table: one for each id up to the highest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kdsweep.data.classes_file import ClassTable, default_palette
from kdsweep.data.file_errors import Problems
from kdsweep.data.fingerprint import file_facts, fingerprint, kept_json
from kdsweep.data.pictures import FrameError, mask_palette, read_mask
from kdsweep.errors import DataError
from kdsweep.labels import VOID


def guessed_classes(masks: Sequence[Path], root: Path, cache: Path) -> tuple[ClassTable, list[str]]:
    """Return classes ``class_0`` … up to the highest id in any mask but 255, and remarks.

    Args:
        masks: Every mask.
        root: The data set's folder.
        cache: Where the outcome of the look through all masks is kept.

    Raises:
        DataError: The masks hold colours, or fewer than two classes.
    """
    ids = _kept_ids(masks, root, cache)
    labelled = [value for value in ids if value != VOID]
    if len(labelled) < 2:
        raise DataError(_too_few(ids, root, len(masks)))
    num_classes = max(labelled) + 1
    stored = mask_palette(masks[0])
    colours = default_palette(num_classes)
    if stored is not None and len(stored) >= num_classes:
        colours = stored[:num_classes]
    names = tuple(f"class_{i}" for i in range(num_classes))
    table = ClassTable(names, colours, {i: i for i in range(num_classes)} | {VOID: VOID})
    remarks = [
        f"there is no classes.yaml: the masks hold the ids {listed(labelled)}"
        + (", and 255, which is void" if VOID in ids else "")
    ]
    if len(labelled) < num_classes:
        remarks.append(
            f"{num_classes - len(labelled)} of {num_classes} ids occur in no mask; for classes "
            f"without gaps write {root / 'classes.yaml'} with names: {{"
            + ", ".join(f"{value}: class_{value}" for value in labelled)
            + "}"
        )
    return table, remarks


def listed(ids: Sequence[int], most: int = 40) -> str:
    """Return ids as text: ``0, 1, 7``; runs of more than two as ``0 … 5``."""
    runs: list[list[int]] = []
    for value in ids:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts: list[str] = []
    for run in runs:
        texts += [f"{run[0]} … {run[-1]}"] if len(run) > 2 else map(str, run)
    return ", ".join(texts[:most]) + (", …" if len(texts) > most else "")


def _too_few(ids: Sequence[int], root: Path, num_masks: int) -> str:
    if not ids or list(ids) == [VOID]:
        return f"folder: no labelled pixel in {num_masks} masks of {root}: 255 is void"
    text = f"folder: the {num_masks} masks of {root} hold nothing but {listed(ids)}"
    if VOID not in ids:
        return f"{text}: one class, so there is nothing to tell apart"
    return (
        f"{text}, and 255 is void where nothing else is said\n"
        f"  try:     write {root / 'classes.yaml'} with\n"
        f"             names: {{{ids[0]}: background, 255: foreground}}"
    )


def _kept_ids(masks: Sequence[Path], root: Path, cache: Path) -> list[int]:
    kept = cache / "classes" / f"{fingerprint([file_facts(masks, root), 'ids'])}.json"
    ids: list[int] = kept_json(kept, lambda: _ids_in(masks, root))
    return ids


def _ids_in(masks: Sequence[Path], root: Path) -> list[int]:
    """Return every id that some mask holds, in order."""
    problems = Problems("folder", root)

    def look(path: Path) -> np.ndarray | FrameError:
        try:
            mask = read_mask(path)
        except FrameError as problem:
            return problem
        if mask.ndim == 3:
            if not (mask == mask[..., :1]).all():
                return FrameError(path, "holds colours, and there is no classes.yaml to name them")
            mask = mask[..., 0]
        return np.bincount(mask.ravel(), minlength=256) > 0

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(look, masks))
    present = np.zeros(256, bool)
    for outcome in found:
        if isinstance(outcome, FrameError):
            problems.add_frame(outcome)
        else:
            present |= outcome
    problems.raise_if_any(
        len(masks),
        f"repair these files, or write {root / 'classes.yaml'} (kdsweep data {root} --write)",
    )
    return [int(value) for value in np.flatnonzero(present)]
