from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdsweep.training.supervised import SupervisedLoss, inverse_log_weights

VOID = 255


def batch(seed: int = 0, void: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=rng)
    labels = torch.randint(0, 3, (2, 4, 5), generator=rng)
    labels[torch.rand(2, 4, 5, generator=rng) < void] = VOID
    return logits, labels


def probabilities(logits: torch.Tensor) -> np.ndarray:
    e = np.exp(logits.double().numpy())
    return e / e.sum(1, keepdims=True)


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits, labels = batch()
    p, truth = probabilities(logits), labels.numpy()
    picked = [-np.log(p[b, truth[b, i, j], i, j]) for b, i, j in np.argwhere(truth != VOID)]
    assert float(SupervisedLoss()(logits, labels)) == pytest.approx(np.mean(picked), rel=1e-6)


def test_weighted_and_smoothed_cross_entropy_agree_with_torch() -> None:
    logits, labels = batch(1)
    weights = (0.5, 1.0, 3.0)
    ours = SupervisedLoss(ce=2.0, label_smoothing=0.1, class_weights=weights)(logits, labels)
    theirs = F.cross_entropy(
        logits, labels, torch.tensor(weights), ignore_index=VOID, label_smoothing=0.1
    )
    assert float(ours) == pytest.approx(2 * float(theirs), rel=1e-6)


def test_dice_by_hand() -> None:
    """One row of two valid pixels, certain predictions, one of them wrong, one void pixel."""
    logits = torch.tensor([[[[50.0, 50.0, 50.0]], [[-50.0, -50.0, -50.0]]]])
    labels = torch.tensor([[[0, 1, VOID]]])
    # class 0: 2·1/(2+1) = 2/3; class 1: 0
    expected = ((1 - 2 / 3) + 1) / 2
    assert float(SupervisedLoss(ce=0, dice=1)(logits, labels)) == pytest.approx(expected)


def test_dice_leaves_out_absent_classes() -> None:
    logits = torch.tensor([[[[50.0]], [[-50.0]], [[-50.0]]]])
    assert float(SupervisedLoss(ce=0, dice=1)(logits, torch.tensor([[[0]]]))) == pytest.approx(0)


def test_focal_formula_and_its_limit() -> None:
    logits, labels = batch(2)
    p, truth = probabilities(logits), labels.numpy()
    picked = np.array([p[b, truth[b, i, j], i, j] for b, i, j in np.argwhere(truth != VOID)])
    expected = ((1 - picked) ** 2 * -np.log(picked)).mean()
    ours = SupervisedLoss(ce=0, focal=1, gamma=2)
    assert float(ours(logits, labels)) == pytest.approx(expected, rel=1e-5)
    plain = SupervisedLoss(ce=0, focal=1, gamma=0)(logits, labels)
    assert float(plain) == pytest.approx(float(SupervisedLoss()(logits, labels)), rel=1e-6)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_all_void_gives_zero_and_no_gradient(weights: tuple | None) -> None:
    logits, labels = batch()
    logits.requires_grad_()
    loss = SupervisedLoss(ce=1, dice=1, focal=1, class_weights=weights)
    value = loss(logits, torch.full_like(labels, VOID))
    value.backward()
    assert float(value.detach()) == 0.0
    assert float(logits.grad.abs().sum()) == 0.0


def test_what_lies_under_void_does_not_matter() -> None:
    logits, labels = batch(3)
    loss = SupervisedLoss(ce=1, dice=1, focal=1, class_weights=(1.0, 2.0, 3.0))
    before = float(loss(logits, labels))
    hidden = (labels == VOID).unsqueeze(1).expand_as(logits)
    assert float(loss(torch.where(hidden, 9.0, logits), labels)) == pytest.approx(before)


def test_inverse_log_weights_favour_rare_classes() -> None:
    rare, common = inverse_log_weights([0.01, 0.99])
    assert (rare + common) / 2 == pytest.approx(1)
    assert rare / common == pytest.approx(np.log(1.02 + 0.99) / np.log(1.02 + 0.01))
