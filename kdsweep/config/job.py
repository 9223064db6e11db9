"""A job: one complete, concrete description of a training."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.data import DataConfig
from kdsweep.config.distill import DistillConfig
from kdsweep.config.losses import LOSSES
from kdsweep.config.model import ModelConfig
from kdsweep.config.sweep import ALL_LABELS
from kdsweep.config.train import TrainConfig


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise broken_rule(
            "not usable as a folder name",
            allowed="letters, digits, '.', '_' and '-', at most 80 of them",
            hint=f"for example {folder_name(name)}",
        )
    return name


def folder_name(text: str) -> str:
    """``text`` with all that a folder name should not hold replaced by ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:80] or "job"


# Checks across several fields look at sections of one scope only. Search spaces rely on it: they
# try the corners of each scope, not those of the whole space.
SCOPES = (("name",), ("data",), ("teacher", "distill", "train"), ("student",))


class Job(Config):
    """One complete, concrete training of a teacher and its student, or of a control.

    Attributes:
        name: Name of the experiment's folder; the file's name if left out.
        data: Frames to train and validate on.
        teacher: The teacher, or ``null`` for a control.
        student: The student.
        distill: What the student learns from the teacher.
        train: How both are trained.
    """

    name: Annotated[str, AfterValidator(_file_name)] = "job"
    data: DataConfig
    teacher: ModelConfig | None = None
    student: ModelConfig
    distill: DistillConfig = Field(default_factory=DistillConfig)
    train: TrainConfig

    @model_validator(mode="after")
    def _terms_have_a_teacher(self) -> Job:
        terms = self.distill.terms()
        own = self.distill.teacher == "self"
        if self.teacher is not None and own:
            raise broken_rule(
                "a teacher beside a student that is its own",
                at=("distill", "teacher"),
                allowed="self without a `teacher:` section; online, ema or frozen with one",
            )
        if self.teacher is None and terms and not own:
            raise broken_rule(
                "a distillation loss without a teacher",
                at=("distill", next(iter(terms))),
                allowed="a teacher, or no distillation losses (weight 0 or null)",
                hint="add a `teacher:` section; in a sweep, `controls: shared` already trains "
                "each student without a teacher",
            )
        return self

    @model_validator(mode="after")
    def _batches_have_images_to_compare(self) -> Job:
        if "cross_image" in self.distill.terms() and self.train.batch_size == 1:
            raise broken_rule(
                "relations between images in batches of one image",
                at=("distill", "cross_image"),
                allowed="cross_image with train.batch_size ≥ 2",
                hint="train.batch_size: 2, or pairwise, which relates the pixels of one image",
            )
        return self

    @property
    def label(self) -> str:
        """``resnet34→resnet18``, or ``control resnet18``."""
        if self.teacher is None:
            taught = "self-taught" if self.is_self_taught else "control"
            more = " with all labels" if self.data.all_labels else ""
            return f"{taught} {self.student.label}{more}"
        return f"{self.teacher.label}→{self.student.label}"

    @property
    def is_self_taught(self) -> bool:
        """Whether the student learns from its own average."""
        return self.teacher is None and bool(self.distill.terms())

    @property
    def learns_unlabelled(self) -> bool:
        """Whether the student learns from frames without labels."""
        sees = self.data.has_unlabelled and self.distill.unlabelled_weight > 0
        return sees and not all(loss.needs_labels for loss in self.distill.terms().values())

    def as_control(self) -> Job:
        """The same student, trained exactly alike but with no teacher."""
        return self.model_copy(update={"teacher": None, "distill": DistillConfig()})

    def as_equal_time(self, epochs: int) -> Job:
        """The control of :meth:`as_control`, but trained for so many epochs."""
        train = self.train.model_copy(update={"epochs": epochs})
        return self.as_control().model_copy(update={"train": train})

    def as_all_labels(self) -> Job:
        """The control of :meth:`as_control`, but with the labels that its data leave out."""
        data = self.data.model_copy(update={"all_labels": True})
        return self.as_control().model_copy(update={"data": data})

    def as_self_taught(self) -> Job:
        """The same student with the same losses on the same frames, taught by its own average.

        Its losses also see the labelled frames, and grow over the first quarter of the training at
        least: an average that knows nothing yet would teach its student just that (mean teacher,
        arXiv 1703.01780, ramps them up as well).
        """
        own: dict[str, Any] = {"teacher": "self", "checkpoint": None, "head_start_epochs": 0}
        own |= {"gate": None, "ema_decay": DistillConfig().ema_decay}
        own["labelled_weight"] = self.distill.labelled_weight or 1.0
        if self.distill.until_epoch is None:
            own["warmup_epochs"] = max(self.distill.warmup_epochs, self.train.epochs / 4)
        own |= {name: None for name, loss in self.distill.terms().items() if loss.reciprocal}
        distill = self.distill.model_copy(update=own)
        if not distill.terms():
            likeness = LOSSES.get("pixel_kl").model_validate({})
            distill = distill.model_copy(update={"pixel_kl": likeness})
        return self.model_copy(update={"teacher": None, "distill": distill})


def all_labels_of(jobs: Iterable[Job], kinds: Collection[str]) -> list[Job]:
    """Return one control with all labels for each of the data of some jobs that leaves any out.

    Args:
        jobs: The jobs.
        kinds: Further controls of their sweep; there are none without that one.
    """
    if ALL_LABELS not in kinds:
        return []
    some = {job.data.model_dump_json(): job for job in jobs if job.data.leaves_labels_out}
    return [job.as_all_labels() for job in some.values()]


def distinct_data(jobs: Iterable[Job]) -> list[DataConfig]:
    """The sections ``data`` of some jobs, each once."""
    return list({job.data.model_dump_json(): job.data for job in jobs}.values())


# Keys of a data section that change neither its frames nor what their labels mean.
_HOW_SHOWN = (
    *("image_size", "augment", "augment_on", "unlabelled_augment"),
    *("num_classes", "workers", "cache"),
)


def data_section(data: Mapping[str, Any]) -> str:
    """Return what of a section ``data`` (JSON) decides on its frames: equal texts, equal data."""
    decisive = {key: value for key, value in data.items() if key not in _HOW_SHOWN}
    if not decisive.get("all_labels"):  # ledgers of before there was such a key
        decisive.pop("all_labels", None)
    return json.dumps(decisive, sort_keys=True)
