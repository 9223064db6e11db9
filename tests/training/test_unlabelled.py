"""What frames without labels do to a teacher, a student and a control."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import SMALL, make_job
from toy_task import (
    NUM_CLASSES,
    Memory,
    engine,
    objective,
    same,
    tap_channels,
    timeless,
    weights,
)

from kdsweep.config.distill import DistillConfig
from kdsweep.config.job import Job
from kdsweep.data import VOID, UnlabelledBatch, open_data
from kdsweep.distill import LOSSES
from kdsweep.models import Activations
from kdsweep.training.engine import Engine
from kdsweep.training.online_step import online_step
from kdsweep.training.report import EpochReport
from kdsweep.training.seeding import derive_seed
from kdsweep.training.step import TrainingBatch
from kdsweep.trial import build_cohort

KL = {"pixel_kl": {"weight": 1.0}}


class Pictures:
    """Unlabelled frames in memory, another batch for each step."""

    def __init__(self, seed: int = 0, inside: int = 0) -> None:
        self.seed = seed
        self.inside = inside
        self.asked: list[int] = []

    def steps(self, first: int, num: int) -> Iterator[UnlabelledBatch]:
        for step in range(first, first + num):
            self.asked.append(step)
            made = torch.Generator().manual_seed(1000 * self.seed + step)
            images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=made)
            inside = torch.full((2, 32, 32), self.inside, dtype=torch.uint8)
            yield UnlabelledBatch(images, images.flip(-1), inside)


def with_pictures(students: list[dict | None], pictures: Pictures | None, **options: Any) -> Engine:
    made = engine(students, unlabelled=pictures, **options)
    for _ in made.epochs():
        pass
    return made


def test_a_student_learns_from_them_and_nobody_else_notices() -> None:
    without = with_pictures([KL, None], None)
    seen = with_pictures([KL, None], Pictures())
    others = with_pictures([KL, None], Pictures(seed=1))
    teachers = [made.teacher.learner.weights() for made in (without, seen, others)]
    assert same(teachers[0], teachers[1])
    assert same(teachers[0], teachers[2])
    for made in (seen, others):
        assert same(weights(without, 1), weights(made, 1))  # the control
    assert not same(weights(without), weights(seen))
    assert not same(weights(seen), weights(others))


def test_they_are_not_fetched_for_those_who_do_not_look() -> None:
    for terms, keys in (({}, {}), (KL, {"unlabelled_weight": 0.0})):
        pictures = Pictures()
        with_pictures([terms or None, None], pictures, **keys)
        assert pictures.asked == []
    pictures = Pictures()
    made = with_pictures([KL], pictures)
    assert pictures.asked == list(range(made.epochs_done * len(Memory())))


def test_what_counts_nowhere_teaches_nothing() -> None:
    def learned(**keys: Any) -> dict[str, float]:
        made = engine([KL], unlabelled=Pictures(**keys))
        return next(made.epochs())[0].metrics

    assert learned(inside=VOID)["student/distill/unlabelled/pixel_kl"] == 0.0
    assert learned()["student/distill/unlabelled/pixel_kl"] > 0.0


def step_values(made: Engine, batch: TrainingBatch) -> dict[str, float]:
    _, (values,) = online_step(made.teacher, made.students, batch, made.settings)
    return {name: float(value) for name, value in values.items()}


@pytest.fixture
def batch() -> TrainingBatch:
    images, labels, _ = next(Memory().epoch(0))
    pictures = next(Pictures().steps(0, 1)).to(torch.device("cpu"))
    return TrainingBatch(images, labels.long(), epoch=0.5, step=0, unlabelled=pictures)


def test_the_loss_is_the_sum_of_its_parts(batch: TrainingBatch) -> None:
    made = engine([KL], labelled_weight=0.25, unlabelled_weight=3.0)
    for learner in (made.teacher, made.students[0]):
        learner.train_mode()
    student = copy.deepcopy(made.students[0].network)
    teacher = copy.deepcopy(made.teacher.learner.network)
    values = step_values(made, batch)
    # By hand: teacher in evaluation mode on its own view, the student on both at once.
    pictures = batch.unlabelled
    torch.manual_seed(derive_seed(made.settings.seed, "student", "dropout", 0))
    both = student(torch.cat([batch.images_BHWC, pictures.strong_BHWC])).logits_BKHW
    num = len(batch.images_BHWC)
    teacher(batch.images_BHWC)  # which moves its running statistics
    teacher.eval()
    without = teacher(pictures.weak_BHWC).logits_BKHW

    def kl(ours: torch.Tensor, theirs: torch.Tensor) -> float:
        target = theirs.softmax(1)
        return float((target * (target.log() - ours.log_softmax(1))).sum(1).mean().detach())

    assert values["distill/unlabelled/pixel_kl"] == pytest.approx(kl(both[num:], without), rel=1e-4)
    supervised = float(made.settings.supervised(both[:num], batch.labels_BHW).detach())
    assert values["supervised"] == pytest.approx(supervised, rel=1e-4)
    expected = supervised + 0.25 * values["distill/pixel_kl"]
    expected += 3.0 * values["distill/unlabelled/pixel_kl"]
    assert values["loss"] == pytest.approx(expected, rel=1e-5)
    assert values["weighted/unlabelled/pixel_kl"] == pytest.approx(
        3.0 * values["distill/unlabelled/pixel_kl"]
    )


def test_unsure_pixels_do_not_count(batch: TrainingBatch) -> None:
    made = engine([KL], confidence_threshold=0.4)
    values = step_values(made, batch)
    teacher = made.teacher.learner.network.eval()
    sureness = teacher(batch.unlabelled.weak_BHWC).logits_BKHW.softmax(1).amax(1)
    assert 0 < values["confident"] < 1
    assert values["confident"] == pytest.approx(float((sureness >= 0.4).float().mean()), abs=0.05)
    surest = step_values(engine([KL], confidence_threshold=0.9999), batch)
    assert surest["confident"] == 0
    assert surest["distill/unlabelled/pixel_kl"] == 0


def test_losses_that_need_labels_see_the_labelled_frames_only(batch: TrainingBatch) -> None:
    values = step_values(engine([{"dkd": {"weight": 1.0}, **KL}]), batch)
    assert "distill/dkd" in values
    assert "distill/unlabelled/pixel_kl" in values
    assert "distill/unlabelled/dkd" not in values


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_loss_says_whether_it_needs_labels(name: str) -> None:
    """Those that look at ids change with them; the others see what is void at most."""
    keys: dict[str, Any] = {"weight": 1.0}
    if LOSSES.get(name).model_fields.get("taps") and name != "channel_wise":
        keys["taps"] = ["encoder.1", "encoder.2"] if name == "review" else ["encoder.2"]
    loss = objective({name: keys}).terms[name]
    torch.manual_seed(0)
    sides = []
    for channels in (tap_channels().student, tap_channels().teacher):
        taps = {
            tap: torch.randn(2, channels[tap], side, side)
            for tap, side in (("encoder.1", 16), ("encoder.2", 8))
        }
        sides.append(Activations(torch.randn(2, NUM_CLASSES, 32, 32), taps))
    ids = torch.randint(0, NUM_CLASSES, (2, 32, 32))
    values = []
    for labels in (ids, (ids + 1) % NUM_CLASSES, torch.zeros_like(ids)):
        torch.manual_seed(1)  # some losses draw what they mask
        values.append(float(loss(*sides, labels).detach()))
    assert (len(set(values)) > 1) == LOSSES.get(name).needs_labels


@pytest.fixture(scope="module")
def base(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Four labelled and four unlabelled frames."""
    job = make_job(
        tiny_data,
        tmp_path_factory.mktemp("unlabelled"),
        teacher={"encoder": "tu-mobilenetv3_small_075", "options": SMALL},
        student={"encoder": "tu-mobilenetv3_small_050", "options": SMALL},
        train={"epochs": 2, "batch_size": 2, "lr": 3e-3, "unlabelled_ratio": 1.5},
    )
    return job.model_copy(update={"data": job.data.model_copy(update={"num_labelled": 4})})


def taught(base: Job, **keys: Any) -> Job:
    return base.model_copy(update={"distill": DistillConfig.model_validate(keys)})


def trained(jobs: list[Job]) -> list[tuple[list, dict[str, torch.Tensor]]]:
    cohort = build_cohort(jobs, open_data(jobs[0].data))
    reports = list(zip(*cohort.engine.epochs(), strict=True))
    cohort.close()
    students = cohort.engine.students
    return [(list(r), dict(s.weights())) for r, s in zip(reports, students, strict=True)]


def test_students_in_a_cohort_train_as_they_would_alone(base: Job) -> None:
    jobs = [
        taught(base, pixel_kl={}, confidence_threshold=0.4),
        taught(base, pixel_kl={}, unlabelled_weight=0.0),
        taught(base, pixel_kl={}).as_self_taught(),
        base.as_control(),
    ]
    together = trained(jobs)
    for job, (reports, ours) in zip(jobs, together, strict=True):
        ((alone, theirs),) = trained([job])
        assert same(ours, theirs), job.label
        for one, other in zip(reports, alone, strict=True):
            assert _own(one) == _own(other)
    assert not same(together[0][1], together[1][1])
    assert not same(together[2][1], together[3][1])


def _own(report: EpochReport) -> dict[str, float]:
    """What is the student's alone, and no comparison with a teacher that is not there."""
    values = {k: v for k, v in timeless(report).items() if k.startswith("student/")}
    return {k: v for k, v in values.items() if k != "student/agreement"}


@pytest.mark.parametrize("self_taught", [True, False])
def test_what_goes_on_sees_the_same_frames(base: Job, self_taught: bool) -> None:
    job = taught(base, pixel_kl={}, teacher="ema")
    job = job.as_self_taught() if self_taught else job
    data = open_data(job.data)
    whole = build_cohort([job], data)
    epochs = whole.engine.epochs()
    next(epochs)
    state = copy.deepcopy(whole.engine.state_dict())
    (last,) = list(epochs)
    again = build_cohort([job], data)
    again.engine.load_state_dict(state)
    (resumed,) = list(again.engine.epochs())
    assert timeless(last[0]) == timeless(resumed[0])
    assert same(weights(whole.engine), weights(again.engine))
