"""The contract every distillation loss keeps, and each formula against NumPy in float64.

A new loss joins with one line in ``loss_cases.CASES`` and its formula in ``EXPECTED``.
"""

from __future__ import annotations

import inspect

import feature_formulas
import logit_formulas
import numpy as np
import pytest
import torch
from grids import share
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import (
    CASES,
    GRIDS,
    VOIDS,
    Case,
    activations,
    build,
    cast,
    evaluate,
    labels,
    leaves,
    pair,
    scene,
    spec_of,
)

from kdsweep.config.distill import DistillConfig
from kdsweep.config.losses import OTHER_KEYS
from kdsweep.config.schema_node import SchemaNode
from kdsweep.distill import LOSSES, TapChannels, build_loss
from kdsweep.labels import VOID
from kdsweep.models import Activations

EXPECTED = logit_formulas.EXPECTED | feature_formulas.EXPECTED
SECTIONS = ("Averaged over", "Defaults", "Taps", "Reference")
every_case = pytest.mark.parametrize("case", CASES, ids=str)
few = settings(max_examples=4, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def on_grids(
    *, same_strides: bool = False, zero: bool = False, repeats: bool = False
) -> pytest.MarkDecorator:
    """Each case with each grid that it is defined on."""
    pairs = [
        pytest.param(case, grid, id=f"{case}-{grid}")
        for case in CASES
        for grid, sizes in GRIDS.items()
        if case.fits(sizes)
        and (sizes.same_strides or not same_strides)
        and (case.zero_for_equal or not zero)
        and (case.repeats or not repeats)
    ]
    return pytest.mark.parametrize(("case", "grid"), pairs)


def test_every_registered_loss_has_a_case_a_formula_and_a_spec() -> None:
    names = set(LOSSES.names())
    assert names == {case.name for case in CASES} == set(EXPECTED)
    fields = {n: SchemaNode.of_field(f).sections for n, f in DistillConfig.model_fields.items()}
    assert names == {name for name, sections in fields.items() if sections}
    assert set(DistillConfig.model_fields) == names | set(OTHER_KEYS)


@pytest.mark.parametrize("name", LOSSES.names())
def test_docstrings_have_every_section_in_order(name: str) -> None:
    # Without the indentation, which Python 3.13 takes away by itself.
    text = inspect.cleandoc(LOSSES.get(name).load_implementation().__doc__ or "")
    at = [text.find(f"\n{section}:\n") for section in SECTIONS]
    assert -1 not in at, dict(zip(SECTIONS, at, strict=True))
    assert at == sorted(at)
    assert "arXiv" in text or "ECCV" in text


@pytest.mark.parametrize("name", LOSSES.names())
def test_the_defaults_of_the_spec_build_the_loss(name: str) -> None:
    config = spec_of(name)()
    channels = {f"encoder.{stage}": 4 for stage in range(5)} | {"decoder": 4, "logits": 3}
    wide = {tap: 2 * width for tap, width in channels.items()} | {"logits": 3}
    loss = build_loss(name, TapChannels(channels, wide), config.options())
    assert set(loss.taps) <= set(channels)
    assert config.weight > 0


@pytest.mark.parametrize("void", VOIDS)
@on_grids()
def test_value_is_the_formula(case: Case, grid: str, void: str) -> None:
    sizes = GRIDS[grid]
    student, teacher = pair(sizes, seed=len(void))
    truth = labels(sizes, void=void)
    loss = build(case, sizes)
    expected = EXPECTED[case.name](scene(loss, student, teacher, truth), **case.options)
    value = evaluate(loss, student, teacher, truth)
    assert value.shape == ()
    assert float(value.detach()) == pytest.approx(expected, rel=case.rel, abs=1e-12)
    single = evaluate(
        loss.float(), cast(student, torch.float32), cast(teacher, torch.float32), truth
    )
    assert single.dtype == torch.float32
    assert float(single.detach()) == pytest.approx(expected, rel=max(5e-5, case.rel), abs=1e-6)


@on_grids()
def test_gradient_reaches_student_and_projections_but_not_the_teacher(
    case: Case, grid: str
) -> None:
    sizes = GRIDS[grid]
    loss = build(case, sizes)
    student, teacher = pair(sizes, seed=0)
    learning, taught = leaves(student), leaves(teacher)
    evaluate(loss, student, teacher.detach(), labels(sizes)).backward()
    assert any(t.grad is not None and t.grad.abs().sum() > 0 for t in learning)
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(t.grad is None for t in taught)


@on_grids(zero=True)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(case: Case, grid: str) -> None:
    sizes = GRIDS[grid]
    same = activations(sizes.teacher, sizes, seed=3)
    channels = TapChannels(sizes.channels.teacher, sizes.channels.teacher)
    loss = build_loss(case.name, channels, case.options)
    assert float(evaluate(loss.double(), same, same, labels(sizes))) == pytest.approx(0, abs=1e-9)


@on_grids(repeats=True)
@given(seed=seeds, void=st.sampled_from(VOIDS))
@few
def test_unchanged_when_the_batch_is_repeated(case: Case, grid: str, seed: int, void: str) -> None:
    sizes = GRIDS[grid]
    student, teacher = pair(sizes, seed)
    truth = labels(sizes, seed, void)

    def twice(a: Activations) -> Activations:
        taps = {k: v.repeat(2, 1, 1, 1) for k, v in a.taps.items()}
        return Activations(a.logits_BKHW.repeat(2, 1, 1, 1), taps)

    loss = build(case, sizes)
    once = float(evaluate(loss, student, teacher, truth).detach())
    assert once > -1e-12  # all are distances
    both = evaluate(loss, twice(student), twice(teacher), truth.repeat(2, 1, 1))
    assert float(both.detach()) == pytest.approx(once, rel=1e-9)


@on_grids(same_strides=True)
@given(seed=seeds, fill=st.floats(-1e3, 1e3))
@few
def test_what_lies_under_void_does_not_matter(
    case: Case, grid: str, seed: int, fill: float
) -> None:
    sizes = GRIDS[grid]
    student, teacher = pair(sizes, seed)
    truth = labels(sizes, seed, "blocks")
    loss = build(case, sizes)
    before = float(evaluate(loss, student, teacher, truth).detach())
    valid_BHW = truth.numpy() != VOID
    for a in (student, teacher):
        for values in (a.logits_BKHW, *a.taps.values()):
            hidden_BHW = torch.from_numpy(share(valid_BHW, tuple(values.shape[-2:])) == 0)
            assert hidden_BHW.any()
            values.copy_(torch.where(hidden_BHW.unsqueeze(1), fill + values, values))
    after = float(evaluate(loss, student, teacher, truth).detach())
    assert after == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("classes", ["all", "one"])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_case
def test_finite_for_extreme_activations(
    case: Case, dtype: torch.dtype, scale: float, classes: str
) -> None:
    sizes = GRIDS["odd"]
    student, teacher = (cast(a, dtype) for a in pair(sizes, 0, scale))
    if scale > 1:  # the largest gap there can be: all pixels at ±1e4
        student.logits_BKHW.sign_().mul_(scale)
        teacher.logits_BKHW.copy_(-student.logits_BKHW)
    truth = labels(sizes)
    if classes == "one":
        truth[truth != VOID] = 2
    tensors = leaves(student)
    loss = build(case, sizes).float()
    value = evaluate(loss, student, teacher, truth)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    for tensor in (*tensors, *loss.parameters()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("void", ["image", "all"])
@every_case
def test_void_images_give_no_gradient_and_no_nan(case: Case, void: str, dtype: torch.dtype) -> None:
    sizes = GRIDS["odd"]
    student, teacher = (cast(a, dtype) for a in pair(sizes, 0))
    tensors = leaves(student)
    loss = build(case, sizes).float()
    value = evaluate(loss, student, teacher, labels(sizes, void=void))
    value.backward()
    assert torch.isfinite(value)
    if void == "all":
        assert float(value.detach()) == 0.0
    for tensor in tensors:
        if tensor.grad is not None:
            assert torch.isfinite(tensor.grad).all()
            assert float(tensor.grad[0].abs().sum()) == 0.0
    for parameter in loss.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@every_case
def test_only_losses_that_say_so_draw_random_numbers(case: Case) -> None:
    """Resuming and controls rely on knowing who draws from the generator."""
    sizes = GRIDS["even"]
    loss = build(case, sizes)
    before = torch.get_rng_state()
    loss(*pair(sizes, 0), labels(sizes))
    assert torch.equal(before, torch.get_rng_state()) != case.random


@every_case
def test_no_value_is_needed_on_the_host(case: Case) -> None:
    """Shapes alone decide what is computed, so that a GPU is never waited for."""
    sizes = GRIDS["odd"]
    student, teacher = (cast(a, torch.float32) for a in pair(sizes, 0))

    def bare(a: Activations) -> Activations:
        return Activations(a.logits_BKHW.to("meta"), {k: v.to("meta") for k, v in a.taps.items()})

    student = bare(student)
    leaves(student)
    value = build(case, sizes).float().to("meta")(student, bare(teacher), labels(sizes).to("meta"))
    value.backward()
    assert value.device.type == "meta"


# --- single losses ---------------------------------------------------------------------------


def test_pixel_kl_by_hand() -> None:
    """Two pixels, two classes, T = 1; one pixel is void."""
    student = Activations(torch.zeros(1, 2, 1, 2), {})
    teacher = Activations(torch.tensor([[[[np.log(3.0), 9.0]], [[0.0, 0.0]]]]), {})
    loss = build(Case("pixel_kl", {"temperature": 1.0}), GRIDS["two_classes"])
    value = loss(student, teacher, torch.tensor([[[0, VOID]]]))
    # p = (3/4, 1/4), q = (1/2, 1/2)
    assert float(value) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6)


@given(seed=seeds, scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
@few
def test_standardized_logits_may_have_any_scale(seed: int, scale: float, shift: float) -> None:
    sizes = GRIDS["odd"]
    student, _ = pair(sizes, seed)
    teacher = Activations(scale * student.logits_BKHW + shift, {})
    loss = build(Case("pixel_kl", {"temperature": 2.0, "standardize": True}), sizes)
    assert float(loss(student, teacher, labels(sizes, seed))) == pytest.approx(0, abs=1e-6)


@given(seed=seeds)
@few
def test_dkd_splits_the_divergence_of_a_pixel(seed: int) -> None:
    """With α = 1 and β = 1 − p of the labelled class the two parts are the divergence again."""
    rng = np.random.default_rng(seed)
    s, t = (torch.from_numpy(rng.normal(0, 3, (1, 5, 1, 1))) for _ in range(2))
    truth = torch.from_numpy(rng.integers(0, 5, (1, 1, 1)))
    share = 1 - float(torch.softmax(t, 1)[0, truth.item(), 0, 0])
    student, teacher = Activations(s, {}), Activations(t, {})
    sizes = GRIDS["odd"]
    parts = build(Case("dkd", {"temperature": 1.0, "beta": share}), sizes)
    whole = build(Case("pixel_kl", {"temperature": 1.0}), sizes)
    assert float(parts(student, teacher, truth)) == pytest.approx(
        float(whole(student, teacher, truth)), rel=1e-9
    )


def test_dist_leaves_out_classes_that_nobody_predicts() -> None:
    sizes = GRIDS["even"]
    same = activations(sizes.teacher, sizes, seed=0)
    same.logits_BKHW[:, -1] = -1e4
    loss = build(Case("dist", {"temperature": 1.0}), sizes)
    assert float(loss(same, same, labels(sizes))) == pytest.approx(0, abs=1e-12)


def test_mutual_teaches_both_ways() -> None:
    assert [name for name in LOSSES.names() if LOSSES.get(name).reciprocal] == ["mutual"]
    sizes = GRIDS["odd"]
    loss = build(Case("mutual", {"temperature": 1.0}), sizes)
    one, other = pair(sizes, 0)
    leaves(one)
    leaves(other)
    truth = labels(sizes)
    (loss(one, other.detach(), truth) + loss(other, one.detach(), truth)).backward()
    gradients = [a.logits_BKHW.grad for a in (one, other)]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)
    assert not torch.allclose(*gradients)


def test_projections_only_where_widths_differ() -> None:
    case = Case("hint", {"taps": ["encoder.2"]})
    assert not list(build(case, GRIDS["even"]).parameters())
    (weight,) = build(case, GRIDS["odd"]).parameters()
    assert weight.shape == (6, 4, 1, 1)
