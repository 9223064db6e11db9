"""Steps and scores never wait for the device, and what is told to one.

Tensors on the meta device have no values: whatever asks for one, and so would stop the host until a
GPU has caught up, fails there.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_task import NUM_CLASSES, STUDENT, learner, make_teacher, objective

from kdsweep.config.distill import DistillConfig
from kdsweep.data.augment.batch_draws import BatchDrawer
from kdsweep.data.augment.on_device import DeviceAugmenter
from kdsweep.distill import LOSSES
from kdsweep.training.metrics import SegmentationScore
from kdsweep.training.online_step import online_step
from kdsweep.training.step import StepSettings, TrainingBatch
from kdsweep.training.supervised import SupervisedLoss
from kdsweep.trial import cohort

SUPERVISED = SupervisedLoss(ce=1.0, dice=1.0, focal=1.0, class_weights=(1.0, 2.0, 3.0))


def every_loss() -> dict[str, dict[str, Any]]:
    """All losses of the catalogue, those at features at stages that the networks have."""
    terms = {}
    for name in LOSSES.names():
        config = DistillConfig.model_validate({name: {}}).terms()[name]
        terms[name] = {"weight": 1.0, **config.options()}
        if getattr(config, "taps", ("logits",)) != ("logits",):
            terms[name]["taps"] = ["encoder.1", "encoder.2"]
    return terms


@pytest.mark.parametrize("kind", [{}, {"ema": True}])
def test_a_step_of_all_losses_asks_for_no_value(kind: dict[str, Any]) -> None:
    terms = every_loss()
    if kind:
        del terms["mutual"]
    meta = torch.device("meta")
    teacher = make_teacher(1e-3, **kind)
    student = learner(STUDENT, "student", 1e-3, objective(terms, gate=True))
    teacher.to(meta)
    student.to(meta)
    settings = StepSettings(SUPERVISED.to(meta), None, "cpu", seed=0)
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8, device=meta)
    labels = torch.zeros(2, 32, 32, dtype=torch.int64, device=meta)
    for measure in (False, True):
        batch = TrainingBatch(images, labels, epoch=0.5, step=0, share=0.5, measure=measure)
        _, (values,) = online_step(teacher, [student], batch, settings)
        assert {f"distill/{name}" for name in terms} < values.keys()
        assert all(value.is_meta for value in values.values())


def test_what_asks_for_a_value_fails_there() -> None:
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        bool(torch.zeros((), device="meta") > 0)


def test_scores_ask_for_no_value_before_the_end() -> None:
    labels = torch.zeros(2, 8, 8, dtype=torch.uint8, device="meta")
    SegmentationScore(NUM_CLASSES, "meta").update(labels.long(), labels)


@pytest.mark.parametrize("preset", ["light", "standard", "strong"])
def test_augmentation_asks_for_no_value(preset: str) -> None:
    # Enough frames for every step of the preset to concern one.
    draws = BatchDrawer(preset, (32, 48), seed=0)(0, range(40))
    steps = {"light": 1, "standard": 5, "strong": 9}[preset]
    assert len(draws.frames) == steps
    images = torch.zeros(40, 32, 48, 3, dtype=torch.uint8, device="meta")
    labels = torch.zeros(40, 32, 48, dtype=torch.uint8, device="meta")
    moved, moved_labels = DeviceAugmenter((32, 48))(images, labels, draws)
    assert moved.is_meta
    assert moved_labels.is_meta
    assert moved.shape == images.shape


def test_kernels_are_looked_for_once_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    cohort._prepare(torch.device("cpu"))
    assert not torch.backends.cudnn.benchmark
    cohort._prepare(torch.device("cuda"))
    assert torch.backends.cudnn.benchmark
