"""Scores teachers that were trained already, before anything is trained with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.config.metrics import LABELLED, NATIVE
from kdsweep.data import EvalLoader, SegmentationData, open_data
from kdsweep.models import choose_device
from kdsweep.training.evaluation import evaluate
from kdsweep.training.step import StepSettings
from kdsweep.training.supervised import SupervisedLoss
from kdsweep.trial.cohort import autocast_dtype, build_role
from kdsweep.trial.trained_model import card_of, load_checkpoint

if TYPE_CHECKING:
    from kdsweep.config.job import Job

Scored = Mapping[str, Any]
# What a score is of; the rest is what was found.
_KEY = ("checkpoint", "model", "data", "image_size", "protocol")


def score_teachers(
    jobs: Sequence[Job], *, device: str = "auto", known: Sequence[Scored] = ()
) -> list[dict[str, Any]]:
    """Score each teacher's checkpoint on the validation frames, as the trainings will.

    Args:
        jobs: The jobs, prepared by :func:`~kdsweep.trial.checking.prepare`.
        device: Where they train.
        known: What was found before; it is not scored again.

    Returns:
        Of each checkpoint, on each data and at each size, plain JSON: ``checkpoint``, ``label``,
        ``model``, ``data`` (fingerprint), ``image_size``, ``protocol``, ``num_frames``,
        ``num_classes``, ``miou``, and ``own_miou``, what its card says of the same frames at the
        same size, ``None`` if it has none or says nothing of these.
    """
    scored = {_key(teacher): dict(teacher) for teacher in known}
    found: dict[str, dict[str, Any]] = {}
    for job in jobs:
        if job.teacher is None or job.distill.checkpoint is None:
            continue
        data = open_data(job.data)
        teacher = {
            "checkpoint": job.distill.checkpoint,
            "label": job.teacher.label,
            "model": job.teacher.model_dump(mode="json"),
            "data": None if data.identity is None else data.identity.fingerprint,
            "image_size": list(job.data.image_size),
            "protocol": job.train.validate_at,
            "num_frames": len(data.val),
            "num_classes": len(data.classes),
        }
        key = _key(teacher)
        if key not in found:
            found[key] = scored.get(key) or {
                **teacher,
                "miou": _score(job, data, choose_device(device)),
                "own_miou": _own(teacher, data),
            }
    return list(found.values())


def _key(teacher: Scored) -> str:
    return repr([teacher[name] for name in _KEY])


def _score(job: Job, data: SegmentationData, device: torch.device) -> float:
    assert job.teacher is not None
    assert job.distill.checkpoint is not None
    network = build_role(job, job.teacher, len(data.classes), "teacher")
    load_checkpoint(network, job.distill.checkpoint, job.teacher)
    loader = EvalLoader(
        data.val, batch_size=2 * job.train.batch_size, pin_memory=device.type == "cuda"
    )
    is_native = job.train.validate_at == NATIVE
    try:
        found = evaluate(
            {"teacher": network.to(memory_format=torch.channels_last).to(device)},
            loader,
            num_classes=len(data.classes),
            device=device,
            settings=StepSettings(
                SupervisedLoss(), autocast_dtype(job.train.precision, device), device.type, 0
            ),
            over=LABELLED,
            native=data.native["val"].labels if is_native else None,
        )
    finally:
        loader.close()
        del network
        if device.type == "cuda":
            torch.cuda.empty_cache()
    miou = found.scores["teacher"].miou
    return miou if math.isfinite(miou) else 0.0


def _own(teacher: Scored, data: SegmentationData) -> float | None:
    """What a checkpoint's own card says, where it is about the same."""
    card = card_of(teacher["checkpoint"])
    if card is None or card.get("miou") is None or teacher["data"] is None:
        return None
    same = {
        "classes": list(data.classes),
        "image_size": teacher["image_size"],
        "protocol": teacher["protocol"],
        "miou_over": LABELLED,
    }
    is_same = all(card.get(name) == value for name, value in same.items())
    fingerprint = (card.get("data") or {}).get("fingerprint")
    return float(card["miou"]) if is_same and fingerprint == teacher["data"] else None
