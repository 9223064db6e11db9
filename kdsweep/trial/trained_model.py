"""A trained student on disk: its weights, a card that says what they are, what it confuses.

Weights are safetensors, the card is JSON: reading them cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from kdsweep.config.metrics import MIOU, MiouOver
from kdsweep.errors import ConfigError
from kdsweep.ledger.atomic import new_directory
from kdsweep.ledger.layout import CARD, CONFUSION, WEIGHTS
from kdsweep.trial.foreign_teacher import check_foreign, is_foreign, load_foreign

if TYPE_CHECKING:
    from torch import Tensor

    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig
    from kdsweep.data import SegmentationData
    from kdsweep.models import SegmentationNetwork
    from kdsweep.training.learner import Learner
    from kdsweep.training.report import EpochReport

_CHECKPOINT = ("distill", "checkpoint")
# What decides which weights a network has; where they came from does not.
_ARCHITECTURE = ("arch", "encoder", "options")


def save_trained(
    folder: Path,
    job: Job,
    student: Learner,
    data: SegmentationData,
    report: EpochReport,
    confusions: Mapping[str, np.ndarray],
    over: MiouOver,
) -> None:
    """Put a student in a folder, replacing the one that is there.

    Args:
        folder: Where; put in place whole.
        job: The job it was trained by.
        student: The student.
        data: What it was trained on.
        report: Of the epoch that it has reached.
        confusions: By network (``student``, ``teacher``) the confusion matrix of that epoch on the
            validation split: pixels by label and prediction.
        over: The classes that count in mIoU.
    """
    network = student.network
    model = job.student.model_copy(update={"encoder_weights": job.student.weights_name})
    card = {
        "model": model.model_dump(mode="json"),
        "classes": list(data.classes),
        "palette": np.asarray(data.palette).tolist(),
        "image_size": list(job.data.image_size),
        "image_bits": job.data.image_bits,
        "mean": [m / 255.0 for m in network.shift_C11.flatten().tolist()],
        "std": [1.0 / (255.0 * s) for s in network.scale_C11.flatten().tolist()],
        "epoch": report.epoch,
        "miou": report.metrics.get(MIOU),
        "miou_over": over,
        "protocol": job.train.validate_at,
        "source": job.data.source,
        "notice": data.notice,
        "data": None if data.identity is None else data.identity.name,
    }
    with new_directory(folder) as temporary:
        (temporary / WEIGHTS).write_bytes(save(student.weights()))
        (temporary / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
        # Here and not in the ledger: one matrix for each trial instead of one for each epoch.
        counts = {name: matrix.tolist() for name, matrix in confusions.items()}
        kept = {"epoch": report.epoch, "classes": list(data.classes), **counts}
        (temporary / CONFUSION).write_text(json.dumps(kept), encoding="utf-8")


def check_checkpoint(job: Job, classes: Sequence[str] | None = None) -> None:
    """Refuse a teacher's checkpoint that is not there, or is not that teacher's.

    Args:
        job: A job; without a teacher or a checkpoint nothing is checked.
        classes: Names of the classes of its data, where they are known.

    Raises:
        ConfigError: With its place in the job.
    """
    if job.teacher is None or job.distill.checkpoint is None:
        return
    if is_foreign(job.distill.checkpoint):
        num_classes = None if classes is None else len(classes)
        check_foreign(job, job.teacher, job.distill.checkpoint, num_classes)
        return
    card = _read_card(job.distill.checkpoint)
    model = card["model"]
    wanted = job.teacher.model_dump(mode="json")
    for key in _ARCHITECTURE:
        if model.get(key) != wanted[key]:
            raise ConfigError(
                f"this checkpoint is of another network: its {key} is {model.get(key)!r}, the "
                f"teacher's {wanted[key]!r}",
                path=_CHECKPOINT,
                value=job.distill.checkpoint,
                allowed=f"a trained {job.teacher.label}",
                hint="train one with `kdsweep train`, as the student of a job without a teacher",
            )
    if classes is not None and list(card["classes"]) != list(classes):
        raise ConfigError(
            f"this checkpoint knows other classes ({', '.join(card['classes'])})",
            path=_CHECKPOINT,
            value=job.distill.checkpoint,
            allowed=f"one trained on {', '.join(classes)}",
        )


def load_checkpoint(network: SegmentationNetwork, checkpoint: str, model: ModelConfig) -> None:
    """Give a network the weights of a checkpoint, and the statistics of the pixels it has seen.

    Args:
        network: The network, built from ``model``.
        checkpoint: Folder that :func:`save_trained` wrote, or a model of
            segmentation-models-pytorch.
        model: For the error message.

    Raises:
        ConfigError: The weights cannot be read, or are not of this network.
    """
    if is_foreign(checkpoint):
        load_foreign(network.get_submodule("model"), checkpoint, model)
        return
    try:
        weights: dict[str, Tensor] = load_file(Path(checkpoint) / WEIGHTS)
        network.load_state_dict(weights)
        card = _read_card(checkpoint)
        network.see_pixels_as(card.get("mean"), card.get("std"))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the weights of this checkpoint cannot be used: {reason}",
            path=_CHECKPOINT,
            value=checkpoint,
            allowed=f"a trained {model.label}",
        ) from error


def card_of(checkpoint: str) -> dict[str, Any] | None:
    """Return the card of a checkpoint; ``None`` if it is not one of kdsweep."""
    return None if is_foreign(checkpoint) else _read_card(checkpoint)


def _read_card(checkpoint: str) -> dict[str, Any]:
    path = Path(checkpoint) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(card, dict)
        card["model"]["encoder"], list(card["classes"])
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        there = "cannot be read" if path.exists() else "has no " + CARD
        raise ConfigError(
            f"this folder {there}, so it is not that of a trained student",
            path=_CHECKPOINT,
            value=checkpoint,
            allowed=f"a folder with {WEIGHTS} and {CARD}",
            hint="the `best` folder of a trial, for example experiments/latest/trials/0007/best",
        ) from error
    return card
