"""A job's cohort as it is measured before anything is trained, on noise.

What a training takes depends neither on what the pictures show nor on trained weights, so no frame
is decoded for it, and no weights are fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kdsweep.config.metrics import RESIZED
from kdsweep.data import FrameCounts, SegmentationData, Split
from kdsweep.trial.cohort import Cohort, build_cohort

if TYPE_CHECKING:
    from kdsweep.config.job import Job


def untrained_cohort(
    job: Job, counts: FrameCounts, *, device: torch.device | str = "cpu"
) -> Cohort:
    """Return a job's cohort with nothing fetched or compiled, and a batch of noise to train on.

    Raises:
        ConfigError: The job asks for what the networks do not have.
    """
    return build_cohort([_plain(job)], _noise(job, counts), device=device)


def _plain(job: Job) -> Job:
    """The job without what would have to be fetched, compiled or learned."""
    plain = {"encoder_weights": None}
    teacher = None if job.teacher is None else job.teacher.model_copy(update=plain)
    same_rate = {"lr": None}
    train = job.train.model_copy(
        update={
            # Noise must not drive the weights to infinity.
            "lr": 1e-6,
            "teacher": job.train.teacher.model_copy(update=same_rate),
            "student": job.train.student.model_copy(update=same_rate),
            "compile": False,
            "validate_at": RESIZED,  # noise has no files, and so no other size
        }
    )
    return job.model_copy(
        update={
            "teacher": teacher,
            "student": job.student.model_copy(update=plain),
            "distill": job.distill.model_copy(update={"checkpoint": None}),
            "train": train,
        }
    )


def _noise(job: Job, counts: FrameCounts) -> SegmentationData:
    """As many random frames as a step and its validation need, in memory."""
    rng = np.random.default_rng(0)
    height, width = job.data.image_size

    def split(num: int) -> Split:
        return Split(
            rng.integers(0, 256, (num, height, width, 3), np.uint8),
            rng.integers(0, counts.num_classes, (num, height, width), np.uint8),
            tuple(map(str, range(num))),
        )

    return SegmentationData(
        name=counts.name,
        classes=tuple(f"class {number}" for number in range(counts.num_classes)),
        palette=np.zeros((counts.num_classes, 3), np.uint8),
        train=split(min(counts.num_train, job.train.batch_size)),
        val=split(min(counts.num_val, 2 * job.train.batch_size)),
        test=None,
        embedded=True,
        notice=None,
        unlabelled=split(min(counts.num_unlabelled, job.train.unlabelled_batch_size))
        if counts.num_unlabelled
        else None,
    )
