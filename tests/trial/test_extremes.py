"""The smallest and the largest job of a space."""

from __future__ import annotations

from kdsweep.config import load_space
from kdsweep.trial.extremes import _Sizes, smallest_and_largest


def space(**sections):
    return load_space(
        {
            "name": "tiny",
            "data": {
                "source": "roadscenes",
                "scenes": 10,
                "val_scenes": 4,
                "image_size": {"values": [[32, 64], [64, 64]]},
            },
            "teacher": {"encoder": {"values": ["resnet34", "resnet18"]}},
            "student": {"encoder": {"values": ["mobilenet_v2", "resnet18"]}},
            "distill": {"pixel_kl": {"weight": {"values": [0, 1]}}},
            "train": {"epochs": {"values": [2, 5]}, "batch_size": {"values": [4, 2]}},
            **sections,
        }
    )


def test_they_need_not_be_corners_themselves() -> None:
    smallest, largest = smallest_and_largest(space().corners())
    assert smallest.data.image_size == (32, 64)
    assert (smallest.teacher.encoder, smallest.student.encoder) == ("resnet18", "mobilenet_v2")
    assert (smallest.train.epochs, smallest.train.batch_size) == (2, 2)
    assert list(smallest.distill.terms()) == []
    assert largest.data.image_size == (64, 64)
    assert (largest.teacher.encoder, largest.student.encoder) == ("resnet34", "resnet18")
    assert (largest.train.epochs, largest.train.batch_size) == (5, 4)
    assert list(largest.distill.terms()) == ["pixel_kl"]


def test_arithmetic_counts_what_is_trained_and_what_only_runs() -> None:
    sizes = _Sizes()
    job = next(space(train={"epochs": 2}).corners())
    teacher = sizes.macs(job.teacher, job.data)
    student = sizes.macs(job.student, job.data)
    assert teacher > student > 0
    # Ten frames three times forward, backward included, and four to validate.
    assert sizes.training(job) == 2 * (10 * 3 + 4) * (teacher + student)
    frozen = job.model_copy(
        update={"distill": job.distill.model_copy(update={"teacher": "frozen"})}
    )
    assert sizes.training(job) - sizes.training(frozen) == 2 * 10 * 2 * teacher
    assert sizes.training(job.as_control()) == 2 * (10 * 3 + 4) * student


def test_one_job_is_both() -> None:
    smallest, largest = smallest_and_largest(
        space(
            data={"source": "roadscenes", "image_size": [32, 32]},
            teacher={"encoder": "resnet18"},
            student={"encoder": "mobilenet_v2"},
            distill={},
            train={"epochs": 1},
        ).corners()
    )
    assert smallest == largest
