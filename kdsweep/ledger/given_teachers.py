"""What is said of teachers that were trained already, before anything is trained with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsweep.config import Job

# A lower score than by which a network of the same card, scored on another machine, may differ.
_MOST_LOST = 0.05


def coming_notes(jobs: Iterable[Job]) -> list[str]:
    """Return which trained teachers some jobs begin with, before these are scored."""
    teachers = [(j.teacher, j.distill.checkpoint) for j in jobs if j.teacher is not None]
    found = [
        f"{teacher.label} from {path}; scored when it runs"
        for teacher, path in teachers
        if path is not None
    ]
    return list(dict.fromkeys(found))


def teacher_notes(data: Mapping[str, Any]) -> list[str]:
    """Return what each trained teacher scores, in words; a doubtful one is a ``warning``.

    Args:
        data: What is known of the data, as a ledger's first line has it.
    """
    return [f"warning: {d}" if (d := _doubt(t)) else _said(t) for t in data.get("teachers", ())]


def teacher_scores(data: Mapping[str, Any]) -> list[str]:
    """Return what each trained teacher scores, in words and without a doubt."""
    return [_said(teacher) for teacher in data.get("teachers", ())]


def teacher_doubts(data: Mapping[str, Any]) -> list[str]:
    """Return what is doubtful of the trained teachers, in words."""
    return [doubt for teacher in data.get("teachers", ()) if (doubt := _doubt(teacher))]


def _said(teacher: Mapping[str, Any]) -> str:
    return (
        f"{teacher['label']} from {teacher['checkpoint']} scores mIoU {teacher['miou']:.3f} on the "
        f"{teacher['num_frames']} validation frames"
    )


def _doubt(teacher: Mapping[str, Any]) -> str | None:
    """Return why a teacher's score is lower than it should be, in words."""
    miou, own = teacher["miou"], teacher["own_miou"]
    if own is not None:
        if own - miou <= _MOST_LOST:
            return None
        why = f"its own card says {own:.3f}"
    elif miou < min(0.5, 1.5 / teacher["num_classes"]):
        why = f"barely more than guessing one of {teacher['num_classes']} classes"
    else:
        return None
    asked = "is it trained for other pixels (encoder_pixels) or classes?"
    return f"{_said(teacher)}, {why}; {asked}"
