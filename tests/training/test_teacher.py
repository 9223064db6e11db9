"""How the teacher trains and what its students see of it: modes, head start, gate, measurements."""

from __future__ import annotations

import copy

import pytest
import torch
from toy_task import ALL, KL, Memory, engine, make_teacher, same, timeless, weights

from kdsweep.distill import Ramp
from kdsweep.training.engine import Engine
from kdsweep.training.gradients import GradientShares
from kdsweep.training.report import EpochReport, judge_share

MUTUAL = {"mutual": {"weight": 2.0, "temperature": 1.0, "stride": 1}}
MODES = {
    "head start": {"head_start_epochs": 2},
    "frozen": {"head_start_epochs": 1, "frozen": True},
    "average": {"ema": True, "ema_decay": 0.9},
    "average with head start": {"ema": True, "ema_decay": 0.9, "head_start_epochs": 1},
}


def trained(made: Engine) -> list[EpochReport]:
    return [report for (report,) in made.epochs()]


def teacher_weights(made: Engine) -> dict[str, torch.Tensor]:
    assert made.teacher is not None
    return {k: v.clone() for k, v in made.teacher.network.state_dict().items()}


def test_a_control_notices_no_teacher_of_any_kind() -> None:
    alone = engine([None], teacher=False)
    losses = [report.metrics["student/loss"] for report in trained(alone)]
    for mode in MODES.values():
        beside = engine([None], teacher=mode)
        assert [report.metrics["student/loss"] for report in trained(beside)] == losses
        assert same(weights(alone), weights(beside))


@pytest.mark.parametrize(
    ("mode", "num_before"),
    [("head start", 1), ("frozen", 1), ("average", 1), ("average with head start", 2)],
)
def test_resuming_anywhere_is_exact(mode: str, num_before: int) -> None:
    """Stopped after so many epochs, those of the head start counted."""
    whole, stopped, resumed = (engine([ALL], teacher=MODES[mode], gate=True) for _ in range(3))
    expected = trained(whole)
    parts = [*([stopped.head_start()] * stopped.teacher.head_start_epochs), stopped.epochs()]
    for number in range(num_before):
        next(parts[min(number, len(parts) - 1)], None)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    rest = trained(resumed)
    assert [timeless(r) for r in rest] == [timeless(r) for r in expected[stopped.epochs_done :]]
    assert same(weights(resumed), weights(whole))


def test_a_head_start_trains_the_teacher_alone() -> None:
    made = engine([KL], teacher={"head_start_epochs": 2}, lr=3e-3)
    before = weights(made)
    losses = [values["loss"] for values in made.head_start()]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert same(before, weights(made))
    first, second = trained(made)
    assert first.metrics["time/head_start_s"] > 0
    assert first.seconds > first.metrics["time/head_start_s"]
    assert "time/head_start_s" not in second.metrics
    assert first.metrics["teacher/loss"] < losses[0]


def test_the_teachers_clock_runs_ahead_by_its_head_start() -> None:
    made = engine([KL], teacher={"head_start_epochs": 2}, lr=3e-3)
    times: list[float] = []
    made.teacher.learner.update = times.append  # type: ignore[method-assign]
    trained(made)
    assert times == pytest.approx([(i + 0.5) / 3 for i in range(12)])


def test_a_frozen_teacher_stands_still_after_its_head_start() -> None:
    made = engine([ALL], teacher=MODES["frozen"], lr=3e-3)
    start = teacher_weights(made)
    next(made.head_start())
    frozen = teacher_weights(made)
    assert not same(start, frozen)
    first, second = trained(made)
    assert same(frozen, teacher_weights(made))  # running statistics of batch norm, too
    assert first.metrics["teacher/miou"] == second.metrics["teacher/miou"]
    assert first.metrics["student/loss"] != second.metrics["student/loss"]


def test_an_average_follows_the_network_that_trains() -> None:
    teacher = make_teacher(1e-2, ema=True, ema_decay=0.5)
    old = {k: v.clone() for k, v in teacher.average.network.state_dict().items()}
    for value in teacher.learner.network.parameters():
        value.grad = torch.ones_like(value)
    teacher.update(0.5)
    new, ours = teacher.learner.network.state_dict(), teacher.average.network.state_dict()
    for name, value in ours.items():
        if value.is_floating_point():
            # The first step keeps a tenth of the old, whatever the decay.
            torch.testing.assert_close(value, 0.1 * old[name] + 0.9 * new[name])
    for _ in range(20):
        teacher.update(0.5)
    before = {k: v.clone() for k, v in ours.items()}
    teacher.update(0.5)
    name = next(k for k, v in ours.items() if v.is_floating_point())
    torch.testing.assert_close(ours[name], 0.5 * before[name] + 0.5 * new[name])


def test_an_averaged_teacher_is_what_students_see_and_what_is_scored() -> None:
    online, averaged = engine([KL]), engine([KL], teacher={"ema": True, "ema_decay": 0.9})
    trained(online), trained(averaged)
    theirs = averaged.teacher.learner.weights()
    assert same(online.teacher.learner.weights(), theirs)
    assert not same(theirs, teacher_weights(averaged))
    assert not same(weights(online), weights(averaged))
    assert all(not p.requires_grad for p in averaged.teacher.network.parameters())


def test_terms_end_and_are_still_reported() -> None:
    made = engine([KL], ramp=Ramp(until_epoch=1.0))
    first, second = (report.metrics for report in trained(made))
    assert first["student/weighted/pixel_kl"] > 0
    assert second["student/weighted/pixel_kl"] == 0
    assert second["student/distill/pixel_kl"] > 0
    assert second["student/loss"] == second["student/supervised"]
    assert second["student/ramp/pixel_kl"] == 0
    assert "student/grad_share/pixel_kl" not in second


def test_a_closed_gate_leaves_the_student_a_control() -> None:
    untrained = engine([KL], gate=True)
    untrained.teacher.learner.update = lambda epoch: None  # type: ignore[method-assign]
    with torch.no_grad():  # wrong about everything, and more so than any beginner
        for value in untrained.teacher.network.model.segmentation_head.parameters():
            value.mul_(100.0)
    control = engine([None], teacher=False)
    reports = trained(untrained)
    trained(control)
    assert same(weights(untrained), weights(control))
    assert all(report.metrics["student/gate"] == 0 for report in reports)
    assert all(report.metrics["student/grad_share/pixel_kl"] == 0 for report in reports)


def test_shares_of_the_gradient_are_those_of_its_parts() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(4, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    x = torch.randn(5, 3)
    unused = torch.zeros(2, requires_grad=True)
    parts = {
        "supervised": (x @ weight.T + bias).square().mean(),
        "a": 0.3 * (weight @ x.T).abs().mean(),
        "b": 2.0 * bias.exp().sum(),
    }
    norms = {}
    for name, part in parts.items():
        found = torch.autograd.grad(part, (weight, bias), retain_graph=True, allow_unused=True)
        norms[name] = torch.cat([g.flatten() for g in found if g is not None]).norm()
    shares = GradientShares([weight, bias, unused], parts, rest="supervised")
    torch.stack(list(parts.values())).sum().backward()
    found = shares.after_backward()
    total = sum(norms.values())
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        {k: float(v / total) for k, v in norms.items()}, rel=1e-4
    )


def test_measuring_shares_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = engine([ALL])
    reports = trained(measured)
    for report in reports:
        shares = [v for k, v in report.metrics.items() if k.startswith("student/grad_share/")]
        assert len(shares) == len(ALL) + 1
        assert sum(shares) == pytest.approx(1.0)
        assert min(shares) > 0
    monkeypatch.setattr("kdsweep.training.online_step.GradientShares", _Unmeasured)
    plain = engine([ALL])
    trained(plain)
    assert same(weights(measured), weights(plain))


class _Unmeasured:
    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def after_backward(self) -> dict[str, torch.Tensor]:
        return {}


def test_shares_with_accumulated_batches() -> None:
    made = engine([ALL], accumulate=2, batches=Memory(num_batches=4))
    report = trained(made)[0]
    shares = [v for k, v in report.metrics.items() if k.startswith("student/grad_share/")]
    assert sum(shares) == pytest.approx(1.0)


def test_mutual_learning_teaches_the_teacher() -> None:
    mutual, plain = engine([MUTUAL, None]), engine([None])
    (report, rider) = next(iter(mutual.epochs()))
    (alone,) = next(iter(plain.epochs()))
    assert not same(teacher_weights(mutual), teacher_weights(plain))
    assert rider.metrics["student/loss"] == alone.metrics["student/loss"]
    metrics = report.metrics
    for who in ("student", "teacher"):
        assert metrics[f"{who}/weighted/mutual"] == pytest.approx(
            2.0 * metrics[f"{who}/distill/mutual"], rel=1e-5
        )
        assert metrics[f"{who}/loss"] == pytest.approx(
            metrics[f"{who}/supervised"] + metrics[f"{who}/weighted/mutual"], rel=1e-5
        )


def test_agreement_is_the_share_of_equal_predictions() -> None:
    frames = Memory()
    made = engine([KL], batches=frames, keep=tuple(range(6)))
    report = trained(made)[-1]
    equal = total = 0
    for _, labels, indices in frames:
        for label, index in zip(labels.numpy(), indices.tolist(), strict=True):
            student = made.predictions["student0"][index]
            same_class = student == made.predictions["teacher"][index]
            equal += int((same_class & (label != 255)).sum())
            total += int((label != 255).sum())
    assert report.metrics["student/agreement"] == pytest.approx(equal / total)
    assert 0 < equal < total


def test_what_counts_as_lopsided() -> None:
    assert judge_share(0.009) == "negligible"
    assert judge_share(0.009, ramp=0.5) is None
    assert judge_share(0.01) is None
    assert judge_share(0.95) is None
    assert judge_share(0.951, ramp=0.5) == "dominant"
