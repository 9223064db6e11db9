"""From a job to the loss against the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsweep.data import SegmentationData, class_frequencies
from kdsweep.errors import ConfigError
from kdsweep.training.supervised import SupervisedLoss, inverse_log_weights

if TYPE_CHECKING:
    from kdsweep.config.job import Job


def supervised_loss(job: Job, data: SegmentationData) -> SupervisedLoss:
    """Return the loss of a job against the labels of its data.

    Raises:
        ConfigError: As for :func:`class_weights`.
    """
    config = job.train.supervised
    return SupervisedLoss(
        ce=config.ce.weight if config.ce else 0.0,
        label_smoothing=config.ce.label_smoothing if config.ce else 0.0,
        dice=config.dice.weight if config.dice else 0.0,
        focal=config.focal.weight if config.focal else 0.0,
        gamma=config.focal.gamma if config.focal else 0.0,
        class_weights=class_weights(job, data),
    )


def class_weights(job: Job, data: SegmentationData) -> tuple[float, ...] | None:
    """The weight of each class, or ``None``.

    Raises:
        ConfigError: Their number is not that of the classes.
    """
    weights = job.train.supervised.class_weights
    if weights == "inverse_log":
        return inverse_log_weights(class_frequencies(data.train, len(data.classes)).tolist())
    if weights is not None and len(weights) != len(data.classes):
        raise ConfigError(
            f"{len(weights)} class weights for {len(data.classes)} classes",
            path=("train", "supervised", "class_weights"),
            value=list(weights),
            allowed=f"one positive number for each of {', '.join(data.classes)}; or inverse_log",
        )
    return weights
