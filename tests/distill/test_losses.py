"""The contract every distillation loss keeps, and each formula against NumPy in float64.

A new loss joins with one line in ``CASES`` and its formula in ``EXPECTED``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsweep.distill import DISTILLATION_LOSSES, DistillationLoss, TapChannels, build_objective
from kdsweep.errors import SpecError
from kdsweep.models import Activations
from kdsweep.spec.distill import DistillSpec

VOID = 255
CASES: list[tuple[str, dict[str, Any]]] = [
    ("pixel_kl", {"temperature": 1.0}),
    ("pixel_kl", {"temperature": 3.0, "stride": 4}),
    ("channel_wise", {"temperature": 4.0, "stride": 4}),
    ("channel_wise", {"temperature": 2.0, "taps": ["encoder.1"]}),
    ("hint", {"taps": ["encoder.1"]}),
    ("hint", {"taps": ["encoder.1"], "normalize": True}),
    ("attention", {"taps": ["encoder.0", "encoder.1"]}),
]
IDS = [f"{name}-{index}" for index, (name, _) in enumerate(CASES)]
NUM_CLASSES = 4


def make(name: str, options: dict[str, Any], same_width: bool = True) -> DistillationLoss:
    narrow = 6 if same_width else 3
    channels = TapChannels(
        {"encoder.0": 4, "encoder.1": narrow, "logits": NUM_CLASSES},
        {"encoder.0": 5, "encoder.1": 6, "logits": NUM_CLASSES},
    )
    torch.manual_seed(0)
    return DISTILLATION_LOSSES.get(name)(channels, **options)


def activations(seed: int, batch: int = 2, scale: float = 1.0, width: int = 6) -> Activations:
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng) * scale

    return Activations(
        draw(batch, NUM_CLASSES, 8, 12),
        {"encoder.0": draw(batch, 4, 4, 6), "encoder.1": draw(batch, width, 2, 3)},
    )


def labels(seed: int = 0, batch: int = 2, void: float = 0.2) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, NUM_CLASSES, (batch, 8, 12))
    drawn[rng.random(drawn.shape) < void] = VOID
    return torch.from_numpy(drawn)


# --- formulas, independent of torch ---------------------------------------------------------


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def pooled(x: np.ndarray, valid: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    b, c, height, width = x.shape
    h, w = -(-height // stride), -(-width // stride)
    out, any_valid = np.zeros((b, c, h, w)), np.zeros((b, h, w), bool)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                cell = np.s_[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
                mask = valid[n][cell]
                any_valid[n, i, j] = mask.any()
                if mask.any():
                    out[n, :, i, j] = x[n][(slice(None), *cell)][:, mask].mean(1)
    return out, any_valid


def share(valid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    b, height, width = valid.shape
    h, w = size
    return valid.reshape(b, h, height // h, w, width // w).mean((2, 4))


def np_pixel_kl(s: dict, t: dict, valid: np.ndarray, temperature: float, stride: int = 1) -> float:
    s_logits, mask = pooled(s["logits"], valid, stride)
    t_logits, _ = pooled(t["logits"], valid, stride)
    p, q = softmax(t_logits / temperature, 1), softmax(s_logits / temperature, 1)
    return temperature**2 * (p * np.log(p / q)).sum(1)[mask].mean()


def np_channel_wise(
    s: dict,
    t: dict,
    valid: np.ndarray,
    temperature: float,
    stride: int = 8,
    taps: tuple = ("logits",),
) -> float:
    total = 0.0
    for tap in taps:
        if tap == "logits":
            s_map, mask = pooled(s["logits"], valid, stride)
            t_map, _ = pooled(t["logits"], valid, stride)
        else:
            s_map, t_map = s[tap], t[tap]
            mask = share(valid, t_map.shape[-2:]) > 0
        values = []
        for n in range(len(s_map)):
            p = softmax(t_map[n][:, mask[n]] / temperature, 1)
            q = softmax(s_map[n][:, mask[n]] / temperature, 1)
            values.append((p * np.log(p / q)).sum() / len(p))
        total += temperature**2 * np.mean(values)
    return total


def np_hint(s: dict, t: dict, valid: np.ndarray, taps: tuple, normalize: bool = False) -> float:
    total = 0.0
    for tap in taps:
        a, b = s[tap], t[tap]
        if normalize:
            a = a / np.linalg.norm(a, axis=1, keepdims=True)
            b = b / np.linalg.norm(b, axis=1, keepdims=True)
        squared = ((a - b) ** 2).sum(1) if normalize else ((a - b) ** 2).mean(1)
        weight = share(valid, b.shape[-2:])
        total += (squared * weight).sum() / weight.sum()
    return total


def np_attention(s: dict, t: dict, valid: np.ndarray, taps: tuple) -> float:
    total = 0.0
    for tap in taps:
        weight = share(valid, t[tap].shape[-2:])
        a = ((s[tap] ** 2).mean(1) * weight).reshape(len(weight), -1)
        b = ((t[tap] ** 2).mean(1) * weight).reshape(len(weight), -1)
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
        total += ((a - b) ** 2).mean()
    return total


EXPECTED: dict[str, Callable[..., float]] = {
    "pixel_kl": np_pixel_kl,
    "channel_wise": np_channel_wise,
    "hint": np_hint,
    "attention": np_attention,
}


def as_numpy(a: Activations) -> dict[str, np.ndarray]:
    arrays = {name: tap.double().numpy() for name, tap in a.taps.items()}
    return arrays | {"logits": a.logits_BKHW.double().numpy()}


# --- contract --------------------------------------------------------------------------------


def test_every_registered_loss_has_a_case_a_formula_and_a_spec() -> None:
    names = set(DISTILLATION_LOSSES.names())
    assert names == {name for name, _ in CASES} == set(EXPECTED)
    assert names == set(DistillSpec.model_fields) - {"warmup_epochs"}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_value_is_the_formula(name: str, options: dict[str, Any], seed: int) -> None:
    student, teacher, truth = activations(seed), activations(seed + 100), labels(seed)
    value = make(name, options)(student, teacher, truth)
    valid = truth.numpy() != VOID
    expected = EXPECTED[name](as_numpy(student), as_numpy(teacher), valid, **options)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_gradient_reaches_student_and_projections_but_not_the_teacher(
    name: str, options: dict[str, Any]
) -> None:
    loss = make(name, options, same_width=False)
    student, teacher = activations(0, width=3), activations(1)
    tensors = [student.logits_BKHW, *student.taps.values()]
    for tensor in (*tensors, teacher.logits_BKHW, *teacher.taps.values()):
        tensor.requires_grad_()
    loss(student, teacher.detach(), labels()).backward()
    assert any(t.grad is not None and t.grad.abs().sum() > 0 for t in tensors)
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert teacher.logits_BKHW.grad is None


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(
    name: str, options: dict[str, Any]
) -> None:
    same = activations(3)
    assert float(make(name, options)(same, same, labels())) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_unchanged_when_the_batch_is_repeated(name: str, options: dict[str, Any]) -> None:
    student, teacher, truth = activations(0), activations(1), labels()

    def twice(a: Activations) -> Activations:
        return Activations(
            a.logits_BKHW.repeat(2, 1, 1, 1),
            {k: v.repeat(2, 1, 1, 1) for k, v in a.taps.items()},
        )

    loss = make(name, options)
    once = float(loss(student, teacher, truth))
    assert float(loss(twice(student), twice(teacher), truth.repeat(2, 1, 1))) == pytest.approx(
        once, rel=1e-5
    )


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_what_lies_under_void_does_not_matter(name: str, options: dict[str, Any]) -> None:
    student, teacher, truth = activations(0), activations(1), labels(void=0.0)
    truth[:, :4, :8] = VOID  # whole cells of every grid used here
    loss = make(name, options)
    before = float(loss(student, teacher, truth))
    for a in (student, teacher):
        a.logits_BKHW[:, :, :4, :8] = 77.0
        a.taps["encoder.0"][:, :, :2, :4] = 77.0
        a.taps["encoder.1"][:, :, :1, :2] = 77.0
    assert float(loss(student, teacher, truth)) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_finite_for_extreme_activations(
    name: str, options: dict[str, Any], dtype: torch.dtype, scale: float
) -> None:
    def cast(a: Activations) -> Activations:
        return Activations(a.logits_BKHW.to(dtype), {k: v.to(dtype) for k, v in a.taps.items()})

    student, teacher = cast(activations(0, scale=scale)), cast(activations(1, scale=scale))
    student.logits_BKHW.requires_grad_()
    for tap in student.taps.values():
        tap.requires_grad_()
    value = make(name, options)(student, teacher, labels())
    value.backward()
    assert torch.isfinite(value)
    for tensor in (student.logits_BKHW, *student.taps.values()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("images", ["one", "all"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_all_void_images_give_no_gradient_and_no_nan(
    name: str, options: dict[str, Any], images: str
) -> None:
    truth = labels()
    truth[0 if images == "one" else slice(None)] = VOID
    student = activations(0)
    student.logits_BKHW.requires_grad_()
    for tap in student.taps.values():
        tap.requires_grad_()
    value = make(name, options)(student, activations(1), truth)
    value.backward()
    assert torch.isfinite(value)
    if images == "all":
        assert float(value.detach()) == 0.0
    for tensor in (student.logits_BKHW, *student.taps.values()):
        if tensor.grad is not None:
            assert torch.isfinite(tensor.grad).all()
            assert float(tensor.grad[0].abs().sum()) == 0.0


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0.1, 30))
@settings(max_examples=25, deadline=None)
def test_pixel_kl_is_never_negative(seed: int, void: float, scale: float) -> None:
    loss = make("pixel_kl", {"temperature": 2.0})
    value = loss(
        activations(seed, scale=scale), activations(seed + 1, scale=scale), labels(seed, void=void)
    )
    assert float(value) >= -1e-6


def test_pixel_kl_by_hand() -> None:
    """Two pixels, two classes, T = 1; one pixel is void."""
    student = Activations(torch.zeros(1, 2, 1, 2), {})
    teacher = Activations(torch.tensor([[[[np.log(3.0), 9.0]], [[0.0, 0.0]]]]), {})
    value = make("pixel_kl", {"temperature": 1.0})(student, teacher, torch.tensor([[[0, VOID]]]))
    # p = (3/4, 1/4), q = (1/2, 1/2)
    assert float(value) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6)


def test_projections_only_where_widths_differ() -> None:
    assert not list(make("hint", {"taps": ["encoder.1"]}, same_width=True).parameters())
    (weight,) = make("hint", {"taps": ["encoder.1"]}, same_width=False).parameters()
    assert weight.shape == (6, 3, 1, 1)


# --- objective -------------------------------------------------------------------------------


def test_ramp_is_linear_over_the_warmup_epochs() -> None:
    channels = TapChannels({"logits": 4}, {"logits": 4})
    terms = {"pixel_kl": {"weight": 2.0, "temperature": 1.0}}
    objective = build_objective(terms, channels, warmup_epochs=2)
    assert [objective.ramp(e) for e in (0, 0.5, 1, 2, 5)] == [0, 0.25, 0.5, 1, 1]
    assert objective.weights == {"pixel_kl": 2.0}
    assert build_objective(terms, channels).ramp(0.0) == 1.0


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="unknown distillation loss") as caught:
        build_objective({"pixel_kll": {"weight": 1}}, TapChannels({}, {}))
    assert str(caught.value).split("allowed: ")[1].startswith("pixel_kl")
