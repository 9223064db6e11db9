"""What one step of a training costs, as it was measured. No torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepCost:
    """Times and memory of one job's training, teacher and student apart.

    Times are medians in seconds, memory is in bytes. A batch is a whole batch of the job, whatever
    it was measured on.

    Attributes:
        start_s: Before the first step of a pair: building its networks, and measuring what a frame
            costs each of them at inference.
        teacher_s: A batch of the teacher beside its students: forward, and backward and update
            where it trains; 0 without a teacher.
        head_start_s: A batch of the teacher in its head start; 0 where it has none.
        student_s: A batch of a student, distillation included.
        control_s: A batch of the same student from its labels alone.
        shares_s: Time on top in the one batch of an epoch in which the gradient of each loss is
            measured by itself.
        batch_s: Waiting for a batch of frames, whatever the number of students.
        teacher_val_s: Scoring a validation frame with the teacher.
        student_val_s: Scoring a validation frame with a student.
        teacher_save_s: An epoch's checkpoint of the teacher.
        student_save_s: An epoch's checkpoint of a student.
        num_batches: Batches in an epoch.
        num_val: Validation frames.
        teacher_bytes: Weights, gradients and optimiser state of the teacher.
        student_bytes: Likewise of a student.
        activation_bytes: What a step needs beyond that at its peak, with one student or several.
        num_frames: Frames in a measured batch; fewer than the job's where steps are slow.
        num_rounds: How often each step was timed.
        spread: Interquartile range of the timed steps, as a share of their median.
        device: Where it was measured, in words.
        threads: CPU threads.
        num_processes: Processes that did the same on the machine at the same time.
        age_s: How long ago it was measured, where it was not now.
    """

    start_s: float
    teacher_s: float
    head_start_s: float
    student_s: float
    control_s: float
    shares_s: float
    batch_s: float
    teacher_val_s: float
    student_val_s: float
    teacher_save_s: float
    student_save_s: float
    num_batches: int
    num_val: int
    teacher_bytes: int
    student_bytes: int
    activation_bytes: int
    num_frames: int
    num_rounds: int
    spread: float
    device: str
    threads: int
    num_processes: int = 1
    age_s: float = 0.0

    @property
    def teacher_epoch_s(self) -> float:
        """What an epoch costs whatever the number of students: batches and the teacher."""
        return (
            self.num_batches * (self.batch_s + self.teacher_s)
            + self.num_val * self.teacher_val_s
            + self.teacher_save_s
        )

    @property
    def student_epoch_s(self) -> float:
        """What an epoch of one student adds."""
        return self.control_epoch_s + (
            self.num_batches * (self.student_s - self.control_s) + self.shares_s
        )

    @property
    def control_epoch_s(self) -> float:
        """What an epoch of one control adds, beside a teacher or alone."""
        return (
            self.num_batches * self.control_s
            + self.num_val * self.student_val_s
            + self.student_save_s
        )

    @property
    def batches_epoch_s(self) -> float:
        """What an epoch of controls alone costs on top of the controls."""
        return self.num_batches * self.batch_s

    @property
    def head_start_epoch_s(self) -> float:
        """What an epoch of the teacher's head start costs."""
        return self.num_batches * (self.batch_s + self.head_start_s) + self.teacher_save_s

    @property
    def alone_epoch_s(self) -> float:
        """What an epoch of a control costs that trains alone."""
        return self.control_epoch_s + self.batches_epoch_s

    def pair_s(self, epochs: int, head_start_epochs: int = 0) -> float:
        """Return what a teacher and one student cost; arguments as for :meth:`equal_epochs`."""
        pair_s = epochs * (self.teacher_epoch_s + self.student_epoch_s)
        return pair_s + head_start_epochs * self.head_start_epoch_s

    def equal_epochs(self, epochs: int, head_start_epochs: int = 0) -> int:
        """Return for how many epochs a control alone trains in the time of a pair, rounded up.

        Args:
            epochs: Of the pair.
            head_start_epochs: Of its teacher before them.
        """
        ratio = self.pair_s(epochs, head_start_epochs) / self.alone_epoch_s
        # Of whole numbers it may come out a hair above one.
        return max(epochs, math.ceil(ratio - 1e-9))

    def memory_bytes(self, students: int) -> int:
        """Return what a cohort of so many students, riding controls counted, needs at its peak."""
        return self.teacher_bytes + students * self.student_bytes + self.activation_bytes

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StepCost:
        """Return what :meth:`to_json` wrote."""
        return cls(**value)
