"""Ledgers made by hand: each test says what happened, the clock runs by itself."""

import os
import socket
from typing import Any

import pytest

JOB = {
    "name": "tiny",
    "data": {"source": "roadscenes", "image_size": [96, 128]},
    "teacher": {"arch": "unet", "encoder": "resnet34"},
    "student": {"arch": "unet", "encoder": "resnet18"},
    "distill": {"pixel_kl": {"weight": 1.0}},
    "train": {"epochs": 3, "batch_size": 8, "lr": 0.001, "seed": 0},
}
DATA = {
    "source": "roadscenes",
    "embedded": True,
    "notice": "generated scenes: these scores say nothing about real roads",
    "classes": ["road", "car", "pole"],
    "num_train": 96,
    "num_val": 48,
}


class Story:
    """Collects the events of a sweep as its ledger would hold them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.now = 1_000_000.0

    def add(self, event: str, seconds: float = 0.0, **fields: Any) -> "Story":
        self.now += seconds
        self.events.append({"event": event, "seq": len(self.events), "time": self.now, **fields})
        return self

    def sweep(self, **fields: Any) -> "Story":
        given = {"schema": 1, "name": "tiny", "metric": "student/miou", "mode": "max"}
        plan = {"sampler": "tpe", "scheduler": "asha", "epochs": 3, "seed": 0, "trials": 4}
        return self.add("sweep", **{**given, **plan, "num_controls": 1, "data": DATA, **fields})

    def session(self, gpus: float = 0.5, pid: int | None = None, **fields: Any) -> "Story":
        where = {"pid": pid or os.getpid(), "host": socket.gethostname(), "slots": 2}
        return self.add(
            "session", session=1, gpus_per_trial=gpus, cpus_per_trial=1, **where, **fields
        )

    def trial(
        self,
        number: int,
        student: str = "resnet18",
        teacher: str | None = "resnet34",
        control: int | None = None,
        params: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
    ) -> "Story":
        kind = "control" if teacher is None else "search"
        label = f"control {student}" if teacher is None else f"{teacher}→{student}"
        job = {**JOB, "train": {**JOB["train"], **(train or {})}}
        job["student"] = {**JOB["student"], "encoder": student}
        if teacher is None:
            job = {**job, "teacher": None, "distill": {}}
        names = {
            "trial": number,
            "kind": kind,
            "label": label,
            "student": student,
            "teacher": teacher,
        }
        return self.add("trial", **names, params=params or {}, job=job, control=control)

    def start(self, number: int, epoch: int = 0, attempt: int = 1) -> "Story":
        return self.add("start", trial=number, attempt=attempt, epoch=epoch)

    def epoch(
        self,
        number: int,
        epoch: int,
        value: float | None,
        stop: str | None = None,
        teacher: float | None = None,
        classes: dict[str, list[float | None]] | None = None,
        seconds: float = 36.0,
    ) -> "Story":
        metrics = {
            "student/miou": value,
            "student/params_m": 11.2,
            "student/seed_compat_iou": value,
        }
        if teacher is not None:
            metrics["teacher/miou"] = teacher
        fields = {"trial": number, "attempt": 1, "epoch": epoch, "value": value, "stop": stop}
        return self.add("epoch", seconds, **fields, metrics=metrics, classes=classes or {})

    def run(
        self, number: int, values: list[float], stop: str | None = "complete", **kwargs: Any
    ) -> "Story":
        """Start a trial and let it report these values, one an epoch."""
        self.start(number)
        for index, value in enumerate(values):
            last = index == len(values) - 1
            self.epoch(number, index + 1, value, stop if last else None, **kwargs)
        return self

    def fail(
        self, number: int, kind: str, message: str, retry: bool = False, **fields: Any
    ) -> "Story":
        given = {"trial": number, "attempt": 1, "class": kind, "message": message, "retry": retry}
        return self.add("fail", 36.0, traceback=f"Traceback …\n{message}", **given, **fields)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def mixed(story: Story) -> Story:
    """A control and four trials: complete, stopped, failed, running; the driver goes on."""
    story.sweep().session()
    story.trial(0, teacher=None)
    story.run(0, [0.30, 0.50, 0.45], classes={"student": [0.9, 0.4, 0.2]})
    story.trial(
        1, control=0, params={"distill.pixel_kl.weight": 2.0, "teacher.encoder": "resnet34"}
    )
    story.start(1)
    story.epoch(
        1, 1, 0.35, teacher=0.40, classes={"student": [0.8, 0.2, 0.1], "teacher": [0.8, 0.3, 0.1]}
    )
    story.epoch(
        1, 2, 0.55, teacher=0.60, classes={"student": [0.9, 0.5, None], "teacher": [0.9, 0.6, 0.3]}
    )
    story.epoch(1, 3, 0.52, "complete", teacher=0.61, classes={"student": [0.9, 0.4, 0.2]})
    story.trial(2, teacher="resnet50", control=0, params={"distill.pixel_kl.weight": 0.5})
    story.run(2, [0.25], "asha")
    story.trial(3, student="mobilenet_v2", train={"lr": 0.01, "seed": 1})
    story.start(3).fail(3, "nan", "loss became NaN at step 7")
    story.trial(4, teacher="resnet50", control=0)
    story.start(4).epoch(4, 1, 0.36)
    return story
