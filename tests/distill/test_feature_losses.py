"""What single losses on features promise beyond the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_cases import GRIDS, Case, build, evaluate, labels, leaves, pair

from kdsweep.config import load_job
from kdsweep.distill import TapChannels, build_loss
from kdsweep.errors import ConfigError
from kdsweep.labels import VOID
from kdsweep.models import Activations

EVEN = GRIDS["even"]


def test_one_image_relates_to_no_other() -> None:
    case = Case("cross_image", {"temperature": 0.1, "taps": ["encoder.2"]})
    student, teacher = pair(GRIDS["one_image"], 0)
    tensors = leaves(student)
    value = build(case, GRIDS["one_image"])(student, teacher, labels(GRIDS["one_image"]))
    value.backward()
    assert float(value.detach()) == 0.0
    gradient = tensors[2].grad
    assert gradient is not None
    assert float(gradient.abs().sum()) == 0.0


def test_correlation_is_one_minus_pearsons_r() -> None:
    case = Case("correlation", {"taps": ["encoder.2"]})
    student, teacher = pair(EVEN, 0)
    value = build(case, EVEN)(student, teacher, labels(EVEN, void="none"))
    s, t = (a.taps["encoder.2"].transpose(0, 1).flatten(1).numpy() for a in (student, teacher))
    expected = 1 - np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(s, t, strict=True)])
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_correlation_does_not_see_scale_and_offset() -> None:
    case = Case("correlation", {"taps": ["encoder.2"]})
    student, teacher = pair(EVEN, 0)
    scaled = Activations(
        student.logits_BKHW, {tap: 100.0 + 7.0 * x for tap, x in student.taps.items()}
    )
    values = [float(build(case, EVEN)(s, teacher, labels(EVEN))) for s in (student, scaled)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)


def test_relations_do_not_see_the_length_of_features() -> None:
    student, teacher = pair(EVEN, 0)
    longer = Activations(student.logits_BKHW, {tap: 7.0 * x for tap, x in student.taps.items()})
    for case in (
        Case("pairwise", {"taps": ["encoder.1"]}),
        Case("ifvd", {"taps": ["encoder.1"]}),
        Case("cross_image", {"temperature": 0.1, "taps": ["encoder.1"]}),
    ):
        values = [float(build(case, EVEN)(s, teacher, labels(EVEN))) for s in (student, longer)]
        assert values[1] == pytest.approx(values[0], rel=1e-9)
        assert values[0] > 0


def test_prototypes_by_hand() -> None:
    """Two pixels of one class at right angles: each is at 45° to their mean, the teacher's at 0."""
    student = Activations(
        torch.zeros(1, 2, 1, 3), {"x": torch.tensor([[[[1.0, 0, 9]], [[0, 1, 5]]]])}
    )
    teacher = Activations(
        torch.zeros(1, 2, 1, 3), {"x": torch.tensor([[[[1.0, 1, 3]], [[0, 0, 7]]]])}
    )
    loss = build_loss("ifvd", TapChannels({"x": 2}, {"x": 2}), {"taps": ["x"]})
    value = loss(student, teacher, torch.tensor([[[1, 1, VOID]]]))
    assert float(value) == pytest.approx((1 - np.sqrt(0.5)) ** 2, rel=1e-5)


def test_an_absent_class_has_no_prototype() -> None:
    case = Case("ifvd", {"taps": ["encoder.1"]})
    student, teacher = pair(EVEN, 0)
    truth = labels(EVEN, void="none")
    relabelled = torch.where(truth == 2, 3, truth)  # class 3 was absent, class 2 is now
    values = [float(build(case, EVEN)(student, teacher, y)) for y in (truth, relabelled)]
    assert values[1] == pytest.approx(values[0], rel=1e-12)


def test_hidden_positions_give_no_gradient() -> None:
    student, teacher = pair(EVEN, 0)
    tensors = leaves(student)
    case = Case("masked", {"taps": ["encoder.1"], "mask_ratio": 0.75})
    evaluate(build(case, EVEN), student, teacher, labels(EVEN, void="none")).backward()
    gradient = tensors[1].grad
    assert gradient is not None
    share = float((gradient.abs().sum(1) > 0).double().mean())
    assert 0.1 < share < 0.4


@pytest.mark.parametrize("size", [(9, 30), (30, 9)])
def test_any_aspect_can_be_reviewed(size: tuple[int, int]) -> None:
    height, width = size
    channels = TapChannels({"x": 3, "logits": 2}, {"x": 3, "logits": 2})
    torch.manual_seed(0)
    loss = build_loss("review", channels, {"taps": ["x"]})
    x, y = torch.randn(2, 3, *size), torch.randn(2, 3, *size)
    truth = torch.zeros(2, height, width, dtype=torch.long)
    logits = torch.zeros(2, 2, height, width)
    value = loss(Activations(logits, {"x": x}), Activations(logits, {"x": y}), truth)
    assert torch.isfinite(value)
    assert float(value.detach()) > 0


def test_the_same_seed_gives_the_same_weights() -> None:
    for name in ("masked", "review"):
        case = Case(name, {"taps": ["encoder.1", "encoder.2"]})
        one, two = (build(case, GRIDS["odd"]).state_dict() for _ in range(2))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_reviewed_taps_go_from_shallow_to_deep() -> None:
    job = {
        "data": {"source": "roadscenes", "image_size": [64, 96]},
        "teacher": {},
        "student": {},
        "distill": {"review": {"taps": ["encoder.4", "encoder.2"]}},
        "train": {"epochs": 1},
    }
    with pytest.raises(ConfigError, match="shallow to deep") as caught:
        load_job(job)
    assert caught.value.path == ("distill", "review", "taps")
    assert "encoder.2, encoder.4" in str(caught.value)
