"""The engine on tiny networks and tensors in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toy_task import ALL, KL, NUM_CLASSES, Memory, engine, same, timeless, weights

from kdsweep.errors import NonFiniteLossError
from kdsweep.pulse import TRAINING, VALIDATING, Beat, Pulse
from kdsweep.training.engine import Engine
from kdsweep.training.evaluation import evaluate


def test_reports_carry_what_people_ask_for_and_training_learns() -> None:
    made = engine([ALL], keep=(0, 3), lr=3e-3)
    reports = [report for (report,) in made.epochs()]
    assert [report.epoch for report in reports] == [1, 2]
    first, last = reports[0].metrics, reports[-1].metrics
    for role in ("student", "teacher"):
        for key in ("miou", "pixel_accuracy", "num_classes", "seed_compat_iou", "loss", "lr"):
            assert f"{role}/{key}" in last
        assert last[f"{role}/loss"] < first[f"{role}/loss"]
    for term in ALL:
        assert last[f"student/weighted/{term}"] == pytest.approx(
            ALL[term]["weight"] * last[f"student/distill/{term}"], rel=1e-5
        )
    total = last["student/supervised"] + sum(last[f"student/weighted/{t}"] for t in ALL)
    assert last["student/loss"] == pytest.approx(total, rel=1e-5)
    assert len(reports[-1].classes["student"]) == NUM_CLASSES
    assert set(reports[-1].classes) == {"student", "teacher"}
    assert set(made.predictions["teacher"]) == {0, 3}
    assert made.predictions["student0"][3].shape == (32, 32)
    assert last["student/params_m"] == pytest.approx(
        sum(p.numel() for p in made.students[0].network.parameters()) / 1e6
    )


class Seen(Pulse):
    def __init__(self) -> None:
        super().__init__()
        self.beats: list[Beat] = []

    def __call__(self, *args: Any, **options: Any) -> None:
        super().__call__(*args, **options)
        self.beats.append(self.now)


def test_each_step_is_told_with_its_epoch_and_its_frames() -> None:
    seen, batches = Seen(), Memory()
    made = engine([KL], teacher={"head_start_epochs": 1}, batches=batches, pulse=seen)
    next(made.epochs())
    num, frames = len(batches), sum(len(batch[0]) for batch in batches)
    steps = list(range(num + 1))
    told = [(b.doing, b.epoch, b.done, b.total) for b in seen.beats]
    assert told == [
        (doing, 1, done, num)
        for doing in ("head start of the teacher", TRAINING, VALIDATING)
        for done in steps
    ]
    assert [b.frames for b in seen.beats if b.done == num] == [frames] * 3


def test_a_cohort_trains_each_student_exactly_as_it_would_train_alone() -> None:
    terms: list[dict | None] = [KL, ALL, None]
    together = engine(terms)
    reports = [list(each) for each in zip(*together.epochs(), strict=True)]
    for index, own in enumerate(terms):
        alone = engine([own])
        for mine, (theirs,) in zip(reports[index], alone.epochs(), strict=True):
            assert timeless(mine) == timeless(theirs)
        assert same(weights(together, index), weights(alone))


def test_control_and_zero_weight_student_take_identical_steps() -> None:
    control = engine([None], teacher=False)
    zero = engine([{"pixel_kl": {"weight": 0.0, "temperature": 1.0}}])
    for (without,), (with_zero,) in zip(control.epochs(), zero.epochs(), strict=True):
        assert without.metrics["student/loss"] == with_zero.metrics["student/loss"]
        assert without.metrics["student/miou"] == with_zero.metrics["student/miou"]
    assert same(weights(control), weights(zero))


def test_distillation_changes_the_student_but_never_the_teacher() -> None:
    plain, distilled = engine([None]), engine([ALL])
    list(plain.epochs())
    list(distilled.epochs())
    assert not same(weights(plain), weights(distilled))
    assert plain.teacher is not None
    assert distilled.teacher is not None
    assert same(plain.teacher.learner.weights(), distilled.teacher.learner.weights())


def test_a_resumed_training_is_the_uninterrupted_one() -> None:
    whole = engine([ALL])
    expected = [report for (report,) in whole.epochs()]
    stopped = engine([ALL])
    next(iter(stopped.epochs()))
    resumed = engine([ALL])
    resumed.load_state_dict(stopped.state_dict())
    ((report,),) = resumed.epochs()
    assert timeless(report) == timeless(expected[1])
    assert same(weights(resumed), weights(whole))


def test_accumulated_batches_make_one_step() -> None:
    """Two equal halves without batch statistics give the gradient of the whole."""

    def frozen_norms(made: Engine) -> Engine:
        student = made.students[0]
        student.train_mode = lambda: student.network.eval()  # type: ignore[method-assign]
        return made

    whole_batch = Memory(num_batches=1, batch_size=4, void=0.0)
    halves = Memory(num_batches=2, batch_size=2, void=0.0)
    whole = frozen_norms(engine([None], teacher=False, batches=whole_batch))
    split = frozen_norms(engine([None], teacher=False, batches=halves, accumulate=2))
    next(whole.epochs())
    next(split.epochs())
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(split)[name], rtol=1e-4, atol=1e-5)


def test_last_group_of_an_epoch_may_be_smaller() -> None:
    made = engine([None], teacher=False, batches=Memory(num_batches=3), accumulate=2)
    next(made.epochs())
    state = made.students[0].optimizer.state_dict()["state"]
    assert {float(entry["step"]) for entry in state.values()} == {2.0}


def test_divergence_is_said_with_its_cause() -> None:
    made = engine([KL])
    with torch.no_grad():
        made.students[0].network.model.segmentation_head[0].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"student's loss .* epoch 1.*smaller train.lr"):
        next(made.epochs())


def test_stored_trace() -> None:
    """A pure refactor reproduces these numbers; they change only with the arithmetic itself."""
    made = engine([ALL])
    losses = [report.metrics["student/loss"] for (report,) in made.epochs()]
    assert losses == pytest.approx(STORED_TRACE, rel=2e-3)


STORED_TRACE = [2.64742, 2.27459]


def test_a_training_keeps_to_the_classes_that_it_began_with() -> None:
    begun = engine([None], teacher=False)
    next(iter(begun.epochs()))
    state = begun.state_dict()
    old = {key: value for key, value in state.items() if key != "miou_over"}
    # A class that no label has, and that is predicted everywhere.
    absent = torch.full((1, 32, 32), NUM_CLASSES - 1)
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    frames = [(image, torch.zeros_like(absent), torch.tensor([0]))]

    class Stubborn(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> object:
            logits = torch.nn.functional.one_hot(absent, NUM_CLASSES).permute(0, 3, 1, 2)
            return SimpleNamespace(logits_BKHW=logits)

    counted = []
    for saved in (state, old):
        resumed = engine([None], teacher=False)
        resumed.load_state_dict(saved)
        counted.append(resumed.score(Stubborn(), frames).num_classes)  # type: ignore[arg-type]
    assert counted == [1, 2]


def test_scores_at_the_labels_own_size_are_those_of_enlarged_logits() -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = [(48, 40), (20, 33), (48, 40), (32, 32), (64, 50)]
    native = [
        torch.randint(0, NUM_CLASSES, size, generator=rng).to(torch.uint8).numpy() for size in sizes
    ]
    for labels in native:
        labels[:3] = 255
    images = torch.randint(0, 256, (5, 32, 32, 3), generator=rng).to(torch.uint8)
    small = torch.zeros(5, 32, 32, dtype=torch.uint8)
    frames = [(images[:3], small[:3], torch.arange(3)), (images[3:], small[3:], torch.arange(3, 5))]
    made = engine([None])
    network, teacher = made.students[0].network, made.teacher.learner.network  # type: ignore[union-attr]
    found = evaluate(
        {"student": network, "teacher": teacher},
        frames,  # type: ignore[arg-type]
        num_classes=NUM_CLASSES,
        device=torch.device("cpu"),
        settings=made.settings,
        keep=(4,),
        compare_with="teacher",
        native=native,
    )
    confusion, equal, labelled = np.zeros((NUM_CLASSES, NUM_CLASSES), int), 0, 0
    with torch.no_grad():
        for image, labels in zip(images, native, strict=True):
            ours, theirs = (
                torch.nn.functional.interpolate(
                    one(image[None]).logits_BKHW, labels.shape, mode="bilinear"
                )
                .argmax(1)[0]
                .numpy()
                for one in (network, teacher)
            )
            known = labels != 255
            np.add.at(confusion, (labels[known], ours[known]), 1)
            equal += (ours == theirs)[known].sum()
            labelled += known.sum()
    assert found.scores["student"].confusion_KK.tolist() == confusion.tolist()
    assert found.agreement["student"] == pytest.approx(equal / labelled)
    assert found.predictions["student"][4].shape == (32, 32)
