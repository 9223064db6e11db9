"""A first search space for data that were looked at, of a size that fits a machine and some hours.

What a user may well change stands in the space; what is chosen here are its first values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config import load_space
from kdsweep.errors import DataError
from kdsweep.sweep.first_size import fit, smaller

if TYPE_CHECKING:
    from kdsweep.config import Space
    from kdsweep.data.look import Look

_TEACHERS = {
    "cpu": ("resnet18", "resnet34", "tu-tf_efficientnet_lite2"),
    "cuda": ("resnet34", "resnet50", "tu-tf_efficientnet_lite2"),
}
_STUDENTS = ("tu-mobilenetv3_small_100", "mobilenet_v2", "tu-tf_efficientnet_lite0")
_TEACHER_DECODER, _STUDENT_DECODER = (128, 64, 48, 32, 16), (64, 48, 32, 24, 16)
_BATCH, _STEPS, _EPOCHS = 8, 3000, (10, 150)
# Without a GPU: steps of larger images take minutes to time alone.
_CPU_LONG_SIDE = 256
_RARE = 0.005


@dataclass(frozen=True)
class Wishes:
    """What a user says of a first space.

    Attributes:
        hours: In which its sweep is to end.
        unlabelled: A folder of pictures without labels.
        max_params_m: Most parameters of a student, in millions.
        weights: Whether encoders begin with ImageNet weights; ``None`` is where they can be had.
        fixed_size: Whether the image size is the user's, and stays.
        measure: Whether to time a few steps; epochs and trials are guesses without.
    """

    hours: float = 8.0
    unlabelled: Path | None = None
    max_params_m: float | None = None
    weights: bool | None = None
    fixed_size: bool = False
    measure: bool = True


@dataclass
class Proposal:
    """A first search space.

    Attributes:
        tree: The space, as its file has it.
        notes: Comments on keys, by section and key; those of ``""`` stand above the space.
        lines: What was chosen and why, for people.
    """

    tree: dict[str, Any]
    notes: dict[tuple[str, str], str]
    lines: list[str] = field(default_factory=list)


def propose(
    look: Look, name: str, wishes: Wishes, say: Callable[[str], None] = lambda text: None
) -> Proposal:
    """Return a first search space.

    Args:
        look: The data set.
        name: Of the space.
        wishes: What its user says.
        say: Called with what is being done.

    Raises:
        DataError: The data should not be trained on as they are.
        ConfigError: The hours are too few even for the least, or a wish is not allowed.
        KdsweepError: Steps could not be measured.
    """
    from kdsweep.trial.machine import this_machine

    has_gpu = bool(this_machine().gpus)
    section = dict(look.section)
    if wishes.unlabelled is not None:
        section["unlabelled"] = str(wishes.unlabelled.expanduser().resolve())
    native = list(section["image_size"])
    if not (wishes.fixed_size or has_gpu):
        section["image_size"] = smaller(native, _CPU_LONG_SIDE)
    say("looking for ImageNet weights")
    with_weights = _loadable(wishes.weights, "cuda" if has_gpu else "cpu")
    proposal = _first_values(look, name, section, wishes, with_weights, has_gpu)
    if wishes.measure:
        proposal.lines = fit(proposal.tree, wishes.hours, say, fixed_size=wishes.fixed_size)
    else:
        proposal.lines = ["nothing was timed: `kdsweep plan` says what this takes"]
        _check(load_space(proposal.tree))
    if (chosen := proposal.tree["data"]["image_size"]) != native:
        sizes = [f"{height}×{width}" for height, width in (chosen, native)]
        proposal.lines.append(
            f"images of {sizes[0]} pixels, not {sizes[1]}, for the hours that there are; "
            "--image-size takes others"
        )
    return proposal


def _check(space: Space) -> None:
    from kdsweep.trial import check_jobs

    check_jobs(space.jobs_to_check())


def _loadable(wanted: bool | None, device: str) -> frozenset[str]:
    """Return the encoders that may begin with ImageNet weights here."""
    from kdsweep.models.encoders import published_weights
    from kdsweep.models.pretrained import can_fetch

    names = {*_TEACHERS[device], *_STUDENTS}
    if wanted is False:
        return frozenset()
    if wanted or can_fetch():
        return frozenset(names)
    return frozenset(name for name in names if published_weights(name).get("imagenet"))


def _first_values(
    look: Look,
    name: str,
    section: dict[str, Any],
    wishes: Wishes,
    with_weights: frozenset[str],
    has_gpu: bool,
) -> Proposal:
    num_train = look.health.splits["train"].num_frames
    batch = min(_BATCH if has_gpu else _BATCH // 2, num_train)
    least, most = _EPOCHS
    epochs = min(max(round(_STEPS / (num_train // batch)), least), most)
    known = [t for t in _TEACHERS["cuda" if has_gpu else "cpu"] if t in with_weights]
    teachers = known or list(_TEACHERS["cuda" if has_gpu else "cpu"][:2])
    weights = {"encoder_weights": "imagenet"}
    teacher = {
        "encoder": {"values": teachers} if len(teachers) > 1 else teachers[0],
        **(weights if known else {}),
        "options": {"decoder_channels": list(_TEACHER_DECODER)},
    }
    student: dict[str, Any] = {
        "values": [
            {
                "encoder": encoder,
                **(weights if encoder in with_weights else {}),
                "options": {"decoder_channels": list(_STUDENT_DECODER)},
            }
            for encoder in _STUDENTS
        ]
    }
    losses = {
        "pixel_kl": {
            "weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"},
            "temperature": {"values": [1, 2, 4]},
        }
    }
    taught: dict[str, Any] = {**losses, "warmup_epochs": 1}
    if wishes.unlabelled is not None:
        labelled = {"labelled_weight": {"values": [0, 1]}}
        taught = {"teacher": "frozen", "head_start_epochs": epochs, **losses, **labelled}
    sweep: dict[str, Any] = {"trials": 40}
    if wishes.max_params_m is not None:
        sweep["constraints"] = {"student/params_m": f"<= {wishes.max_params_m:g}"}
    sweep |= {
        "scheduler": "asha_per_student",
        "students_per_teacher": "auto",
        "controls": "paired",
        "try_first": [{"distill.pixel_kl.weight": 1, "distill.pixel_kl.temperature": 1}],
        "seed": 0,
    }
    tree = {
        "name": name,
        "data": section,
        "teacher": teacher,
        "student": student,
        "distill": taught,
        "train": {
            "epochs": epochs,
            "batch_size": batch,
            "lr": {"min": 0.0003, "max": 0.003, "distribution": "log_uniform_values"},
        },
        "sweep": sweep,
    }
    return Proposal(tree, _notes(look, with_weights, bool(known)))


def _notes(look: Look, with_weights: frozenset[str], known: bool) -> dict[tuple[str, str], str]:
    without = "random initial weights; encoder_weights: imagenet is better where it can be had"
    notes = {
        ("data", "image_size"): "height, width",
        ("data", "classes"): "name: values in the masks; change the names to yours",
        ("data", "skip_unlabelled"): "images without a mask are no labelled frames",
        ("data", "unlabelled"): "frames without labels: students learn them from the teacher",
        ("teacher", "encoder"): "" if known else without,
        ("student", "values"): "one of them; more: kdsweep encoders",
        ("distill", "teacher"): "trains first, then teaches on the frames without labels too",
        ("distill", "warmup_epochs"): "the distillation weight rises at first",
        ("distill", "labelled_weight"): "1: the teacher also teaches on the labelled frames",
        ("train", "epochs"): "of the longest training",
        ("sweep", "constraints"): "in millions; what has more is never trained",
        ("sweep", "scheduler"): "stops weak trials early, but for the best of each student",
        ("sweep", "students_per_teacher"): "trained beside one teacher, which then trains once",
        ("sweep", "controls"): "each student also without a teacher: what did the teacher add?",
        ("sweep", "try_first"): "tried before anything is drawn",
    }
    if with_weights and not with_weights >= set(_STUDENTS):
        notes["student", "values"] += "; ImageNet weights where at hand"
    return {place: note for place, note in notes.items() if note}


def said_of(look: Look) -> Iterator[str]:
    """Yield what a user should know of the data, a line each."""
    health = look.health
    train, val = health.splits["train"], health.splits.get("val")
    counted = f"{train.num_frames} training and {val.num_frames if val else 0} validation frames"
    yield f"{look.layout}: {counted}, {len(health.data.classes)} classes"
    if train.void:
        yield f"{100 * train.void:.2g} % of the training pixels are void: they count nowhere"
    shares = zip(health.data.classes, train.shares_K, strict=True)
    if rare := [name for name, share in shares if share < _RARE]:
        few = ", ".join(rare[:6]) + (", …" if len(rare) > 6 else "")
        yield f"below 0.5 % of the pixels: {few}"
    yield from health.remarks


def as_text(proposal: Proposal, above: Sequence[str]) -> str:
    """Return a space as YAML with comments, which begins with some lines of words."""
    from kdsweep.config import dump_yaml

    lines = [f"# {line}".rstrip() for line in above]
    for key, value in proposal.tree.items():
        lines.append("")
        written = dump_yaml({key: value})
        if key == "student":  # a choice of networks: one a line
            networks = [dump_yaml({"values": [network]}) for network in value["values"]]
            flows = [
                text.strip().removeprefix("{values: [").removesuffix("]}") for text in networks
            ]
            written = "\n".join(["student:", "  values:", *(f"    - {flow}" for flow in flows)])
        for line in written.rstrip().splitlines():
            name = line.strip().partition(":")[0]
            is_own = line.startswith("  ") and not line.startswith(("   ", "  -"))
            note = proposal.notes.get((key, name)) if is_own else None
            lines.append(f"{line:<32}  # {note}" if note else line)
    return "\n".join(lines) + "\n"


def refuse_problems(look: Look) -> None:
    """Raise what a sweep would stop at.

    Raises:
        DataError: The data should not be trained on as they are.
    """
    refused = look.health.refusal(look.section.get("accept", ()))
    if refused is not None:
        raise DataError(refused)
