"""What a frame costs a cohort's networks at inference: measured once, kept beside the trial."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.ledger.atomic import write_json
from kdsweep.models.inference_cost import EarlierRuns, device_name, measure_inference

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.config.model import ModelConfig
    from kdsweep.ledger.layout import TrialFolder
    from kdsweep.models import SegmentationNetwork
    from kdsweep.trial.cohort import Cohort

_LOGGER = logging.getLogger(__name__)
# What every epoch's report repeats; the teacher's, which nobody ships, only for comparison.
_OF_STUDENT = ("macs_g", "latency_ms", "latency_p95_ms", "inference_mb")
_OF_TEACHER = ("macs_g", "latency_ms")
_SHARE_OF_TEACHER = 0.25  # of the time that measuring a student takes
# By conditions: a sweep's worker meets the same few networks again and again.
_EARLIER: defaultdict[str, EarlierRuns] = defaultdict(EarlierRuns)


def measure_costs(cohort: Cohort, jobs: Sequence[Job], folders: Sequence[TrialFolder]) -> None:
    """Measure teacher and students and give each learner its costs, for its reports.

    Students that are built alike are measured once, and what this process has measured in earlier
    trials of theirs counts with it. What was measured before in a trial's folder
    under the same conditions holds on, so that a trial that goes on keeps its numbers. With several
    trials on a machine, networks are measured beside the trainings of others.
    """
    engine = cohort.engine
    size = cohort.data.val.image_size
    known: dict[str, dict[str, Any]] = {}

    def measured(
        role: str, model: ModelConfig, network: SegmentationNetwork, kept: Any, share: float = 1.0
    ) -> dict[str, Any]:
        conditions = {
            "model": model.model_dump(mode="json"),
            "num_classes": network.num_classes,
            "image_size": list(size),
            "precision": str(engine.settings.autocast or torch.float32).removeprefix("torch."),
            "channels_last": jobs[0].train.channels_last is not False,
            "device": device_name(next(network.parameters()).device),
            "num_threads": torch.get_num_threads(),
        }
        key = json.dumps(conditions)
        if key not in known and _holds(kept, conditions):
            known[key] = kept
        if key not in known:
            precision, earlier = engine.settings.precision, _EARLIER[key]
            cost = measure_inference(
                network, size, precision=precision, earlier=earlier, share=share
            )
            known[key] = conditions | cost.to_json()
            _LOGGER.info(_line(role, known[key]))
        return known[key]

    kept = [_read(folder) for folder in folders]
    of_students = []
    for job, before, student in zip(jobs, kept, engine.students, strict=True):
        found = measured("student", job.student, student.network, before.get("student"))
        student.costs = {key: found[key] for key in _OF_STUDENT}
        of_students.append(found)
    # After the students: one that is built like its teacher is measured as a student.
    of_teacher = None
    if engine.teacher is not None:
        model = next(job.teacher for job in jobs if job.teacher is not None)
        known_before = next((k["teacher"] for k in kept if k.get("teacher")), None)
        network, share = engine.teacher.network, _SHARE_OF_TEACHER
        of_teacher = measured("teacher", model, network, known_before, share)
        engine.teacher.learner.costs = {key: of_teacher[key] for key in _OF_TEACHER}
    for job, folder, before, found in zip(jobs, folders, kept, of_students, strict=True):
        costs = {"student": found, "teacher": None if job.teacher is None else of_teacher}
        if costs != before:
            write_json(folder.inference, costs)


def _holds(kept: Any, conditions: dict[str, Any]) -> bool:
    """Return whether something was measured before, with all as it is now."""
    return (
        isinstance(kept, dict)
        and all(kept.get(key) == value for key, value in conditions.items())
        and all(key in kept for key in _OF_STUDENT)
    )


def _read(folder: TrialFolder) -> dict[str, Any]:
    try:
        found = json.loads(folder.inference.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _line(role: str, cost: dict[str, Any]) -> str:
    height, width = cost["image_size"]
    return (
        f"{role} takes {cost['latency_ms']:.3g} ms a frame of {height}×{width} (95 %: "
        f"{cost['latency_p95_ms']:.3g} ms), {cost['macs_g']:.3g} G MACs, "
        f"{cost['inference_mb']:.3g} MB on {cost['device']}, {cost['precision']}, "
        f"{cost['num_threads']} CPU threads"
    )
