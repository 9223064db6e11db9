"""What one student of a cohort leaves in its folder while it trains."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import load_file

from kdsweep.config import dump_yaml
from kdsweep.config.metrics import LAST, TEST_MIOU
from kdsweep.ledger.atomic import write_bytes, write_text
from kdsweep.training.samples import image_png, label_png, sample_sheet
from kdsweep.trial.epoch_log import LopsidedTerms, epoch_line
from kdsweep.trial.trained_model import CARD, WEIGHTS, save_trained

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.data import SegmentationData
    from kdsweep.ledger.layout import TrialFolder
    from kdsweep.training.report import EpochReport
    from kdsweep.trial.cohort import Cohort

_LOGGER = logging.getLogger(__name__)


class StudentFolder:
    """One job of a cohort and its folder: its best student, pictures, log, and what was said.

    Args:
        folder: Its folder; made if it is not there.
        cohort_dir: The folder in which its cohort trains, where the process's output goes; a
            student with another folder has its own lines there as well.
    """

    def __init__(self, job: Job, folder: TrialFolder, cohort_dir: TrialFolder) -> None:
        self.job = job
        self.folder = folder.create()
        self._is_cohort_dir = folder.path == cohort_dir.path
        self._best = -float("inf")
        self._terms = LopsidedTerms()
        write_text(folder.job_yaml, dump_yaml(job))
        if not self._is_cohort_dir:
            log = os.path.relpath(cohort_dir.log, folder.path)
            self._append(
                f"trains in the cohort of trial {cohort_dir.path.name}, whose log is {log}"
            )

    def take(self, report: EpochReport, metric: str, cohort: Cohort, place: int) -> None:
        """Keep the student if this epoch is its best one, or if its last one counts.

        Args:
            report: Of the epoch.
            metric: Key of the report that says which epoch is best.
            cohort: What it trains in.
            place: Its place among the engine's students.
        """
        value = report.metrics.get(metric, float("nan"))
        is_chosen = self.job.train.select == LAST and not math.isnan(value)
        if is_chosen or value > self._best:
            self._best = value
            student = cohort.engine.students[place]
            confusions = _of_one(cohort.engine.confusions, place)
            over = cohort.engine.over
            save_trained(self.folder.best, self.job, student, cohort.data, report, confusions, over)
            self._save_samples(cohort, place)

    def judge_anew(self, data: SegmentationData) -> None:
        """Let the best epoch so far count no more if it was scored on other data."""
        try:
            before = json.loads((self.folder.best / CARD).read_text(encoding="utf-8"))["data"]
        except (OSError, ValueError, KeyError):
            return  # none yet, or of a version that did not write down its data
        if before is not None and data.identity is not None and before != data.identity.name:
            self._best = -float("inf")

    def with_test_scores(self, report: EpochReport, cohort: Cohort, place: int) -> EpochReport:
        """The last epoch's report with the scores of the best epoch's student on the test split.

        Its network has done its work: the checkpoint of this epoch is never trained on.
        """
        if cohort.data.test is None or self._best == -float("inf"):
            return report
        network = cohort.engine.students[place].network
        network.load_state_dict(load_file(self.folder.best / WEIGHTS))
        scores = cohort.score_test(network)
        assert scores is not None
        metrics = {
            TEST_MIOU: scores.miou,
            "test/pixel_accuracy": scores.pixel_accuracy,
            "test/num_classes": float(scores.num_classes),
        }
        return replace(
            report,
            metrics=report.metrics | metrics,
            classes={**report.classes, "test": scores.ious},
        )

    def look_at(self, report: EpochReport) -> list[str]:
        """Return what there is to say of an epoch, then its warnings; each warning is said once."""
        return [epoch_line(report, self.job.train.epochs), *self._terms.look_at(report)]

    def say(self, line: str, *, level: int = logging.INFO, alone: bool = False) -> None:
        """Put a line in the log; with the student's name unless it is alone in the cohort."""
        _LOGGER.log(level, "%s%s", "" if alone else f"{self.folder.path.name}  ", line)
        if not self._is_cohort_dir:
            self._append(line)

    def state(self) -> dict[str, Any]:
        """Return what is remembered between epochs."""
        return {"best": self._best, "lopsided": sorted(self._terms.said)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self._best = float(state["best"])
        self._terms = LopsidedTerms(state["lopsided"])

    def _append(self, line: str) -> None:
        with suppress(OSError), self.folder.log.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')}  {line}\n")

    def _save_samples(self, cohort: Cohort, place: int) -> None:
        frames, data = cohort.sample_frames, cohort.data
        predictions = {
            shown: [found[frame] for frame in frames]
            for shown, found in _of_one(cohort.engine.predictions, place).items()
        }
        images = [np.asarray(data.val.images_NHWC[frame]) for frame in frames]
        labels = [np.asarray(data.val.labels_NHW[frame]) for frame in frames]
        palette = np.asarray(data.palette, np.uint8)
        with suppress(OSError):  # a picture less must not end a training
            sheet = sample_sheet(images, labels, predictions, palette)
            write_bytes(self.folder.samples, image_png(sheet))
            self._save_frames(frames, images, labels, predictions, palette)

    def _save_frames(
        self,
        frames: Sequence[int],
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        predictions: Mapping[str, Sequence[np.ndarray]],
        palette: np.ndarray,
    ) -> None:
        folder = self.folder
        folder.frames.mkdir(exist_ok=True)
        for row, frame in enumerate(frames):
            if not (path := folder.frame(frame, "image")).exists():
                write_bytes(path, image_png(images[row]))
            if not (path := folder.frame(frame, "truth")).exists():
                write_bytes(path, label_png(labels[row], palette))
            for shown, predicted in predictions.items():
                write_bytes(folder.frame(frame, shown), label_png(predicted[row], palette))


def _of_one(found: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Return what an evaluation found of the teacher and of one student."""
    names = {"teacher": "teacher", f"student{place}": "student"}
    return {shown: found[name] for name, shown in names.items() if name in found}
