"""A trained student with its data, scored as its training scored it; and its teacher, if kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdsweep.config import load_job
from kdsweep.data import SegmentationData, Split, open_data
from kdsweep.data.identity import Identity, changed_data
from kdsweep.deploy.card import Card
from kdsweep.deploy.choosing import ChosenStudent
from kdsweep.deploy.torch_model import read_network
from kdsweep.errors import ConfigError
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.ledger.layout import CARD, WEIGHTS, TrialFolder
from kdsweep.models import SegmentationNetwork, build_network, choose_device
from kdsweep.models.pretrained import pixel_statistics
from kdsweep.training.checkpoint import load_state
from kdsweep.trial.cohort import autocast_dtype

if TYPE_CHECKING:
    from kdsweep.config import Job
    from kdsweep.config.model import ModelConfig
    from kdsweep.data.source import Progress, SplitName


@dataclass(frozen=True, eq=False)
class TrainedStudent:
    """A trial's best student, ready to be scored.

    Attributes:
        folder: The trial's folder, or that of an export.
        job: What it was trained by.
        card: What lies beside its weights: epoch, classes and more.
        network: The student, in evaluation mode on its device.
        data: What it was trained on.
        device: Where it runs.
        autocast: Lower precision of the forward passes, that of its validation.
    """

    folder: TrialFolder
    job: Job
    card: Card
    network: SegmentationNetwork
    data: SegmentationData
    device: torch.device
    autocast: torch.dtype | None

    def split(self, name: SplitName) -> Split:
        """A split of its data.

        Raises:
            ConfigError: The data have no such split.
        """
        splits = {"train": self.data.train, "val": self.data.val, "test": self.data.test}
        found = splits.get(name)
        if found is None:
            raise ConfigError(
                f"these {self.data.name} data have no {name} split",
                path=("split",),
                value=name,
                allowed=[name for name, split in splits.items() if split is not None],
            )
        return found

    @property
    def batch_size(self) -> int:
        """Frames that validation took at a time; another number rounds differently."""
        return 2 * self.job.train.batch_size


def open_training(
    chosen: ChosenStudent, data: Sequence[str] = (), advance: Progress | None = None
) -> tuple[Job, Card, SegmentationData]:
    """Return what a student was trained by, what it says of itself, and the data it was trained on.

    Args:
        chosen: The student.
        data: Where data sets lie, as ``"camvid=PATH"``.
        advance: Told what is being done, steps done and steps in all.

    Raises:
        ModelFileError: Its card cannot be used.
        DataError: Its data are missing.
        ConfigError: Its data have other classes.
    """
    job = load_job(chosen.folder.job_yaml, (), data)
    card = chosen.card()
    opened = open_data(job.data, advance)
    if card.classes != tuple(opened.classes):
        raise ConfigError(
            f"the student knows other classes than its data ({', '.join(opened.classes)})",
            path=("data",),
            value=", ".join(card.classes),
            allowed="the data that it was trained on",
        )
    return job, card, opened


def check_data(
    chosen: ChosenStudent,
    card: Card,
    data: SegmentationData,
    accept: bool,
    warn: Callable[[str], None],
) -> None:
    """Refuse data that are not those that a student was trained on.

    Args:
        chosen: The student.
        card: What it says of itself.
        data: What was found.
        accept: Whether to go on nevertheless.
        warn: Told that, and when it is not known what it was trained on.

    Raises:
        DataError: They are others, and that was not accepted.
    """
    if card.data is None or data.identity is None:
        warn(
            "it was not written down which data this student was trained on; whether they have "
            "changed cannot be told"
        )
    elif card.data.fingerprint != data.identity.fingerprint:
        kept = Identity.read(chosen.folder.data(card.data.fingerprint))
        hint = "--data SOURCE=PATH with the data as they were, or --accept-changed-data"
        before = card.data.model_dump()
        error = changed_data("this student", before, kept, data.identity, hint)
        if not accept:
            raise error
        warn(str(error).rpartition("\n")[0])


def open_student(
    chosen: ChosenStudent,
    *,
    data: Sequence[str] = (),
    device: str = "auto",
    advance: Progress | None = None,
) -> TrainedStudent:
    """Load a trained student and open its data; see :func:`open_training` and ``choose_device``.

    Raises:
        ModelFileError: Its card or weights cannot be used.
        DataError: Its data are missing.
        ConfigError: Its data have other classes, or there is no such device.
    """
    place = choose_device(device)
    job, card, opened = open_training(chosen, data, advance)
    network = read_network(card, chosen.weights)
    return TrainedStudent(
        folder=chosen.folder,
        job=job,
        card=card,
        network=_placed(network, card.model, job, place),
        data=opened,
        device=place,
        autocast=autocast_dtype(job.train.precision, place),
    )


def open_teacher(
    student: TrainedStudent, checkpoint: str | Path | None = None
) -> tuple[SegmentationNetwork | None, str]:
    """A teacher to take the mean with, if there is one.

    A sweep keeps students only: a teacher is at hand as long as its trial's checkpoints are (those
    of ``kdsweep train`` stay), where a job names the one it has frozen, or where one is named.

    Args:
        student: The student.
        checkpoint: Folder of any trained network of the same classes, as its teacher.

    Returns:
        The network, or ``None``; and where it comes from, or what is missing.

    Raises:
        ConfigError: The folder that was named holds no such network.
    """
    if checkpoint is not None:
        return _named_teacher(student, Path(checkpoint)), str(checkpoint)
    model, distill = student.job.teacher, student.job.distill
    if model is None:
        own = student.job.is_self_taught
        how = "taught by its own average" if own else "trained without a teacher"
        return None, f"the student was {how} (--teacher FOLDER names one)"
    frozen = distill.teacher == "frozen" and not distill.head_start_epochs
    if frozen and distill.checkpoint is not None:
        if (Path(distill.checkpoint) / WEIGHTS).is_file():
            return _named_teacher(student, Path(distill.checkpoint)), distill.checkpoint
        if Path(distill.checkpoint).exists():
            return None, f"the teacher's checkpoint {distill.checkpoint} is not one of kdsweep's"
        return None, f"the teacher's checkpoint is not at {distill.checkpoint} any more"
    for saved in CheckpointFolder(student.folder.cohort).newest_first():
        state = load_state(saved)
        network = build_network(
            model.arch,
            model.encoder,
            student.network.num_classes,
            options=model.options,
            image_size=student.job.data.image_size,
        )
        network.load_state_dict(_teacher_weights(state["teacher"]))
        said = f"the {model.label} it was trained with, after epoch {state['epochs_done']}"
        return _placed(network, model, student.job, student.device), said
    again = f"kdsweep train {student.folder.job_yaml} --out FOLDER"
    return None, (
        "the teacher's weights were not kept: a sweep keeps its students only "
        f"(`{again}` keeps both; --teacher FOLDER names another trained network)"
    )


def _named_teacher(student: TrainedStudent, folder: Path) -> SegmentationNetwork:
    inside = TrialFolder(folder).best
    folder = inside if (inside / CARD).is_file() else folder
    place = ("teacher",)
    if not (folder / CARD).is_file():
        raise ConfigError(
            "this folder holds no trained network",
            path=place,
            value=str(folder),
            allowed=f"a folder with {WEIGHTS} and {CARD}, or the trial's folder above it",
        )
    card = Card.from_json((folder / CARD).read_text(encoding="utf-8"), folder / CARD)
    if list(card.classes) != list(student.data.classes):
        raise ConfigError(
            f"this network knows other classes ({', '.join(card.classes)})",
            path=place,
            value=str(folder),
            allowed=f"one trained on {', '.join(student.data.classes)}",
        )
    network = read_network(card, folder / WEIGHTS)
    return _placed(network, card.model, student.job, student.device)


def _teacher_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that students learned from, out of what ``Teacher.state_dict`` gave."""
    if "average" in state:
        return dict(state["average"])
    return dict(state["learner"]["network"] if "learner" in state else state["network"])


def _placed(
    network: SegmentationNetwork, model: ModelConfig, job: Job, device: torch.device
) -> SegmentationNetwork:
    """The network as it was in training, down to rounding: a card's statistics have been rounded.

    Its memory order counts too.
    """
    mean, std = pixel_statistics(model.encoder, model.encoder_weights, model.encoder_pixels)
    network.shift_C11.copy_(255.0 * torch.tensor(mean).view(-1, 1, 1))
    network.scale_C11.copy_((1.0 / (255.0 * torch.tensor(std))).view(-1, 1, 1))
    channels_last = job.train.channels_last is not False
    order = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(memory_format=order).to(device).eval()
