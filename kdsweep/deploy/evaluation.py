"""Scoring a trained student on a split, with intervals; with post-processing, beside it without.

Shape legend: N frames, R resamples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsweep.config.metrics import BEST, LABELLED, NATIVE, RESIZED, Protocol
from kdsweep.data.sources.lyft import LyftSource
from kdsweep.deploy.bootstrap import LEVEL, NUM_RESAMPLES, SEED, Estimate, estimate, resample
from kdsweep.deploy.boundary import tolerance_px
from kdsweep.deploy.calibration import reliability
from kdsweep.deploy.chain import apply_chains, median_ms, warm_up
from kdsweep.deploy.frame_counts import FrameCounts
from kdsweep.deploy.protocols import predictions
from kdsweep.deploy.steps import Steps, step_text
from kdsweep.deploy.trained_student import TrainedStudent
from kdsweep.deploy.tta import FramePredictor
from kdsweep.deploy.windows import Windows
from kdsweep.errors import ConfigError
from kdsweep.ledger.atomic import write_json, write_text
from kdsweep.models.inference_cost import device_name
from kdsweep.plain_text import csv_cell

if TYPE_CHECKING:
    from kdsweep.data.source import Progress, SplitName
    from kdsweep.models import SegmentationNetwork

Scores = dict[str, Estimate]


@dataclass(frozen=True)
class Evaluation:
    """What a student scored on a split.

    Attributes:
        facts: What was scored, where and how, as plain JSON.
        scores: By name (see :meth:`~kdsweep.deploy.frame_counts.FrameCounts.scores`).
        reliability: A row for each bin of confidence.
        confusion: Pixels by label and prediction.
        without: Scores without post-processing, where there was some.
        differences: With minus without, on the same resamples of frames.
        notes: What must be kept in mind.
    """

    facts: dict[str, Any]
    scores: Scores
    reliability: list[dict[str, float | None]]
    confusion: np.ndarray = field(repr=False)
    without: Scores | None = None
    differences: Scores | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.facts["classes"])

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        found: dict[str, Any] = {**self.facts, "scores": _plain(self.scores)}
        if self.without is not None and self.differences is not None:
            found["without_postprocessing"] = _plain(self.without)
            found["difference"] = _plain(self.differences)
        found["reliability"] = self.reliability
        found["confusion"] = self.confusion.tolist()
        found["notes"] = list(self.notes)
        return found

    def to_csv(self) -> str:
        """A row for each score."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        more = ["without", "difference", "difference_low", "difference_high"]
        rows.writerow(["score", "class", "value", "low", "high"] + (more if self.without else []))
        for name, found in self.scores.items():
            score, _, of_class = name.partition("/")
            if score not in ("iou", "boundary_f"):
                score, of_class = name, ""
            row = [score, csv_cell(of_class), found.value, found.low, found.high]
            if self.without is not None and self.differences is not None:
                change = self.differences[name]
                row += [self.without[name].value, change.value, change.low, change.high]
            rows.writerow("" if isinstance(cell, float) and cell != cell else cell for cell in row)
        return out.getvalue()

    def write(self, path: Path) -> list[Path]:
        """Write JSON, and CSV beside it; return both paths."""
        return write_with_table(path, self.to_json(), self.to_csv())


def write_with_table(path: Path, plain: Mapping[str, Any], table: str) -> list[Path]:
    """Write a result as JSON, and its CSV beside it; returns both paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".csv")
    write_json(path, plain)
    write_text(beside, table)
    return [path, beside]


def evaluate_student(
    student: TrainedStudent,
    split: SplitName = "val",
    *,
    steps: Steps = (),
    teacher: SegmentationNetwork | None = None,
    num_resamples: int = NUM_RESAMPLES,
    protocol: Protocol | None = None,
    windows: Windows | None = None,
    advance: Progress | None = None,
) -> Evaluation:
    """Score a student on a split.

    Without post-processing, frames go through the network in the batches of the student's
    validation, so that the confusion matrix of ``val`` is the one its training reported.

    Args:
        student: The student.
        split: ``val``, ``test`` or ``train``.
        steps: Post-processing.
        teacher: For steps that ask for one.
        num_resamples: Resamples of the frames that the intervals rest on.
        protocol: The size to score at; as :func:`protocol_of` has it if left out.
        windows: Look at the files' own pixels in windows, instead of resizing the image.
        advance: Told what is being done, frames done and frames in all.

    Raises:
        ConfigError: The data have no such split, or what is asked for does not go together.
    """
    frames = student.split(split)
    protocol = protocol_of(student, protocol, steps, windows)
    counts = new_counts(student)
    without = new_counts(student) if steps else None
    ms: dict[str, float] = {}
    sizes = {frames.image_size}
    if without is None:
        sizes = set()
        for true_HW, labels_HW, sure_HW in predictions(student, split, protocol, windows):
            counts.add(true_HW, labels_HW, sure_HW)
            if advance is not None:
                advance("scoring", len(counts), len(frames))
            sizes.add((true_HW.shape[0], true_HW.shape[1]))
    else:
        predictor = FramePredictor(student, teacher)
        chains: list[Steps] = [(), steps]
        warm_up(predictor, frames, chains)
        times: list[list[float]] = []
        for index, found in apply_chains(predictor, frames, chains):
            for target, one in zip((without, counts), found, strict=True):
                true_HW = np.asarray(frames.labels_NHW[index])
                target.add(true_HW, one.labels_HW, one.confidence_HW)
            times.append([one.ms for one in found])
            if advance is not None:
                advance("scoring", len(counts), len(frames))
        plain, chained = (median_ms(column) for column in zip(*times, strict=True))
        ms = {"ms": round(chained, 3), "ms_without": round(plain, 3)}
    weights_RN = resample(len(counts), num_resamples)
    values = counts.scores(weights_RN)
    before = None if without is None else without.scores(weights_RN)
    facts = _facts(student, split, steps, num_resamples) | ms
    facts |= _where_scored(protocol, windows, sizes)
    return Evaluation(
        facts=facts,
        scores=_estimates(values, len(counts)),
        reliability=reliability(counts.bins_3B),
        confusion=counts.confusion_KK,
        without=None if before is None else _estimates(before, len(counts)),
        differences=None
        if before is None
        else _estimates({n: values[n] - before[n] for n in values}, len(counts)),
        notes=_notes(student, split),
    )


def new_counts(student: TrainedStudent) -> FrameCounts:
    """Counts for a student's predictions, still empty."""
    hood = student.data.name == LyftSource.name and not getattr(student.job.data, "hood_void", True)
    return FrameCounts(student.data.classes, has_hood=hood)


def protocol_of(
    student: TrainedStudent,
    wanted: Protocol | None = None,
    steps: Steps = (),
    windows: Windows | None = None,
) -> Protocol:
    """Return the size to score at.

    Left open, it is that of the student's validation, so that its numbers go on comparing; windows
    are always native, and post-processing is searched and scored at the student's own size.

    Args:
        student: The student.
        wanted: What was asked for, if anything.
        steps: Post-processing.
        windows: Windows.

    Raises:
        ConfigError: These do not go together.
    """
    if wanted is not None and wanted not in (RESIZED, NATIVE):
        raise ConfigError(
            "no such protocol", path=("protocol",), value=wanted, allowed=[RESIZED, NATIVE]
        )
    if steps and (windows is not None or wanted == NATIVE):
        raise ConfigError(
            "post-processing is scored at the student's own size",
            path=("postprocess",),
            value=step_text(steps),
            allowed="with --protocol resized and whole images; or no post-processing",
        )
    if windows is not None and wanted == RESIZED:
        raise ConfigError(
            "windows look at images that are not resized",
            path=("protocol",),
            value=wanted,
            allowed=f"{NATIVE} with windows; or no windows",
        )
    if steps:
        return RESIZED
    if windows is not None:
        return NATIVE
    return wanted or student.job.train.validate_at


def _where_scored(
    protocol: Protocol, windows: Windows | None, sizes: set[tuple[int, int]]
) -> dict[str, Any]:
    """Return the protocol, the inference, and what the size of the scored frames decides."""
    one = sorted(sizes)[0] if len(sizes) == 1 else None
    return {
        "protocol": protocol,
        "scored_size": None if one is None else list(one),
        "window": None if windows is None else list(windows.size),
        "stride": None if windows is None else list(windows.stride),
        "boundary_tolerance_px": None if one is None else round(tolerance_px(one), 3),
    }


def _facts(
    student: TrainedStudent, split: SplitName, steps: Steps, num_resamples: int
) -> dict[str, Any]:
    size = student.data.val.image_size
    return {
        "folder": str(student.folder.path),
        "student": student.job.student.label,
        "epoch": student.card.epoch,
        "source": student.data.name,
        "data": None if student.data.identity is None else student.data.identity.name,
        "split": split,
        "num_frames": len(student.split(split)),
        "image_size": list(size),
        "classes": list(student.data.classes),
        "miou_over": LABELLED,
        "postprocess": step_text(steps),
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over frames",
            "num_resamples": num_resamples,
            "seed": SEED,
        },
        "device": device_name(student.device),
    }


def _notes(student: TrainedStudent, split: SplitName) -> tuple[str, ...]:
    notes = []
    if student.data.notice:
        notes.append(student.data.notice)
    if split == "val" and student.job.train.select == BEST:
        notes.append("its best epoch was chosen on these frames, so they flatter it a little")
    elif split == "train":
        notes.append("it was trained on these frames: they say nothing about new ones")
    return tuple(notes)


def _estimates(values: Mapping[str, np.ndarray], num_frames: int) -> Scores:
    return {name: estimate(values_R, num_frames) for name, values_R in values.items()}


def _plain(scores: Scores) -> dict[str, dict[str, float | None]]:
    return {name: found.to_json() for name, found in scores.items()}
