"""A job: one complete, concrete description of a training."""

from __future__ import annotations


from kdsweep.spec.base import Spec
from kdsweep.spec.data import DataSpec
from kdsweep.spec.distill import DistillSpec
from kdsweep.spec.model import ModelSpec
from kdsweep.spec.train import TrainSpec


class Job(Spec):
    """One complete, concrete training of a teacher and its student, or of a control.

    Attributes:
        name: Name shown in tables.
        data: Frames to train and validate on.
        teacher: The teacher, or ``None`` for a control.
        student: The student.
        distill: What the student learns from the teacher.
        train: How both are trained.
    """

    name: str = "job"
    data: DataSpec
    teacher: ModelSpec | None = None
    student: ModelSpec
    distill: DistillSpec = DistillSpec()
    train: TrainSpec

    @property
    def label(self) -> str:
        """``resnet34→resnet18``, or ``control resnet18``."""
        if self.teacher is None:
            return f"control {self.student.label}"
        return f"{self.teacher.label}→{self.student.label}"

    def as_control(self) -> Job:
        """The same student, trained exactly alike but with no teacher."""
        return self.model_copy(update={"teacher": None, "distill": DistillSpec()})
