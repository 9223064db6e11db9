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
        self.header: dict[str, Any] = {}
        self.now = 1_000_000.0

    def add(self, event: str, seconds: float = 0.0, **fields: Any) -> "Story":
        self.now += seconds
        self.events.append({"event": event, "seq": len(self.events), "time": self.now, **fields})
        if event == "sweep":
            self.header = self.events[-1]
        return self

    def sweep(self, **fields: Any) -> "Story":
        given = {"schema": 1, "name": "tiny", "metric": "student/miou", "mode": "max"}
        plan = {"sampler": "tpe", "scheduler": "asha", "epochs": 3, "seed": 0, "trials": 4}
        plan["miou_over"] = "labelled"
        return self.add("sweep", **{**given, **plan, "num_controls": 1, "data": DATA, **fields})

    def session(self, gpus: float = 0.5, pid: int | None = None, **fields: Any) -> "Story":
        where = {"pid": pid or os.getpid(), "host": socket.gethostname(), "slots": 2}
        given = {"session": 1, "gpus_per_trial": gpus, "cpus_per_trial": 1, **where, **fields}
        return self.add("session", **given)

    def trial(
        self,
        number: int,
        student: str = "resnet18",
        teacher: str | None = "resnet34",
        control: int | None = None,
        params: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        own: bool = False,
        all_labels: bool = False,
        **fields: Any,
    ) -> "Story":
        """Draw a trial; one without a teacher is a control, ``own`` one that teaches itself.

        ``all_labels`` is one that had the labels which the data leave out.
        """
        kind = "control" if teacher is None else "search"
        alone = "self-taught" if own else "control"
        label = f"{alone} {student}" if teacher is None else f"{teacher}→{student}"
        job = {**JOB, "train": {**JOB["train"], **(train or {})}}
        job["student"] = {**JOB["student"], "encoder": student}
        if teacher is None:
            job = {**job, "teacher": None, "distill": {}}
        if all_labels:
            job["data"] = {**job["data"], "all_labels": True}
        if own:
            job["distill"] = {"teacher": "self", "pixel_kl": {"weight": 1.0}}
        names = {
            "trial": number,
            "kind": kind,
            "label": label,
            "student": student,
            "teacher": teacher,
        }
        return self.add("trial", **names, params=params or {}, job=job, control=control, **fields)

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
        terms: dict[str, tuple[float, float, float]] | None = None,
        agreement: float | None = None,
        test: float | None = None,
        costs: dict[str, float] | None = None,
        took: float = 0.0,
    ) -> "Story":
        """Report an epoch that ``took`` some seconds of training.

        ``terms`` has raw value, share of the gradient and ramp by name; ``costs`` whole metrics.
        """
        metrics = {
            "student/miou": value,
            "student/params_m": 11.2,
            "student/seed_compat_iou": value,
            **(costs or {}),
        }
        if teacher is not None:
            metrics["teacher/miou"] = teacher
        if agreement is not None:
            metrics["student/agreement"] = agreement
        if test is not None:
            metrics["test/miou"] = test
        for name, (raw, share, ramp) in (terms or {}).items():
            metrics[f"student/distill/{name}"] = raw
            metrics[f"student/weighted/{name}"] = 2.0 * ramp * raw
            metrics[f"student/grad_share/{name}"] = share
            metrics[f"student/ramp/{name}"] = ramp
        if terms:
            metrics["student/grad_share/supervised"] = 1.0 - sum(s for _, s, _ in terms.values())
        fields = {"trial": number, "attempt": 1, "epoch": epoch, "value": value, "stop": stop}
        deciding = [*self.header.get("metrics", [])[1:], *self.header.get("constraints", {})]
        if deciding:
            fields["costs"] = {name: metrics[name] for name in deciding}
        self.add("epoch", seconds, **fields, metrics=metrics, classes=classes or {})
        self.events[-1]["seconds"] = took
        return self

    def run(
        self, number: int, values: list[float], stop: str | None = "complete", **kwargs: Any
    ) -> "Story":
        """Start a trial and let it report these values, one an epoch."""
        self.start(number)
        for index, value in enumerate(values):
            last = index == len(values) - 1
            self.epoch(number, index + 1, value, stop if last else None, **kwargs)
        return self

    def reject(self, number: int, student: str, excess: dict[str, float]) -> "Story":
        """A draw that breaks a bound by its architecture alone."""
        label = f"resnet34→{student}"
        given = {"params": {}, "values": {}, "drawn_with": None, "excess": excess}
        return self.add("rejected", number=number, label=label, student=student, **given)

    def fail(
        self, number: int, kind: str, message: str, retry: bool = False, **fields: Any
    ) -> "Story":
        given = {"trial": number, "attempt": 1, "class": kind, "message": message, "retry": retry}
        return self.add("fail", 36.0, traceback=f"Traceback …\n{message}", **given, **fields)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def new_story() -> type[Story]:
    """Begins a story, for tests that need several."""
    return Story


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


@pytest.fixture
def distilled(story: Story) -> Story:
    """A control, and trials with a term that counts, one that hardly does and one that begins."""
    story.sweep().session().trial(0, teacher=None).run(0, [0.30, 0.50, 0.45])
    story.trial(1, control=0).start(1)
    story.epoch(
        1, 1, 0.35, teacher=0.40, agreement=0.61,
        terms={"pixel_kl": (0.9, 0.10, 0.5), "attention": (0.02, 0.002, 1.0)},
    )  # fmt: skip
    story.epoch(
        1, 2, 0.55, teacher=0.60, agreement=0.72,
        terms={"pixel_kl": (0.8, 0.30, 1.0), "attention": (0.01, 0.004, 1.0)},
    )  # fmt: skip
    story.epoch(
        1, 3, 0.52, "complete", teacher=0.61, agreement=0.74,
        terms={"pixel_kl": (0.7, 0.20, 1.0), "attention": (0.01, 0.020, 1.0)},
    )  # fmt: skip
    story.trial(2, student="mobilenet_v2", control=0).start(2)
    story.epoch(2, 1, 0.20, teacher=0.30, agreement=0.5, terms={"hint": (3.0, 0.001, 0.25)})
    return story
