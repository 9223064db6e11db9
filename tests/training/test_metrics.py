from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

from kdsweep.training.metrics import SegmentationScore, count_without_waiting

VOID = 255


def score(predictions: list, labels: list, num_classes: int):
    counter = SegmentationScore(num_classes)
    counter.update(torch.tensor(predictions), torch.tensor(labels))
    return counter.compute()


def test_a_case_worked_by_hand() -> None:
    # class 0: hits 2, union 3 (one label 0 predicted 1); class 1: hits 1, union 3;
    # class 2: label once, predicted as 1: hits 0, union 1; class 3 nowhere; one void pixel.
    result = score([[[0, 0, 1, 1, 1, 3]]], [[[0, 0, 0, 1, 2, VOID]]], 4)
    assert result.ious == [pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0, None]
    assert result.miou == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert result.num_classes == 3
    assert result.pixel_accuracy == pytest.approx(3 / 5)
    assert result.confusion_KK.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0] * 4]
    assert result.confusion_KK.dtype == np.int64


def test_agrees_with_scikit_learn_and_torchmetrics_over_several_batches() -> None:
    rng = np.random.default_rng(0)
    counter = SegmentationScore(5)
    theirs = MulticlassJaccardIndex(5, average=None, ignore_index=VOID)
    all_labels, all_predictions, frame_ious = [], [], []
    for batch in (3, 2, 1):
        labels = rng.integers(0, 5, (batch, 7, 9))
        labels[rng.random(labels.shape) < 0.1] = VOID
        predictions = rng.integers(0, 5, labels.shape)
        predictions[rng.random(labels.shape) < 0.5] = 1
        counter.update(torch.from_numpy(predictions), torch.from_numpy(labels).to(torch.uint8))
        theirs.update(torch.from_numpy(predictions), torch.from_numpy(labels))
        for truth, predicted in zip(labels, predictions, strict=True):
            valid = truth != VOID
            frame_ious.append(jaccard_score(truth[valid], predicted[valid], average="macro"))
            all_labels.append(truth[valid])
            all_predictions.append(predicted[valid])
    result = counter.compute()
    truth, predicted = np.concatenate(all_labels), np.concatenate(all_predictions)
    assert result.ious == pytest.approx(jaccard_score(truth, predicted, average=None))
    assert result.ious == pytest.approx(theirs.compute().tolist(), rel=1e-5)
    assert result.pixel_accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert result.seed_compat_iou == pytest.approx(np.mean(frame_ious))


def test_batching_does_not_matter_for_any_number() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (6, 5, 5), generator=rng)
    predictions = torch.randint(0, 3, (6, 5, 5), generator=rng)
    whole, single = SegmentationScore(3), SegmentationScore(3)
    whole.update(predictions, labels)
    for index in range(6):
        single.update(predictions[index : index + 1], labels[index : index + 1])
    first, second = whole.compute(), single.compute()
    assert first.ious == second.ious
    assert first.seed_compat_iou == pytest.approx(second.seed_compat_iou)


def test_nothing_labelled_gives_nan_not_zero() -> None:
    result = score([[[0, 1]]], [[[VOID, VOID]]], 2)
    assert math.isnan(result.miou)
    assert math.isnan(result.pixel_accuracy)
    assert math.isnan(result.seed_compat_iou)
    assert result.num_classes == 0


def test_a_class_of_a_single_pixel_counts_like_any_other() -> None:
    assert score([[[0, 1]]], [[[0, 1]]], 2).ious == [1.0, 1.0]


def test_a_frame_of_a_single_class_counts_like_any_other() -> None:
    # Their mean IoUs: 1 of one class, (1/2 + 1/2) / 2, and none without a labelled pixel.
    labels = [[[0, 0, VOID]], [[0, 1, 1]], [[VOID] * 3]]
    assert score([[[0, 0, 1]]], labels[:1], 2).seed_compat_iou == 1.0
    predictions = [[[0, 0, 1]], [[0, 0, 1]], [[0, 0, 0]]]
    assert score(predictions, labels, 2).seed_compat_iou == pytest.approx((1 + 1 / 2) / 2)


def test_counts_are_integers_that_do_not_saturate() -> None:
    counter = SegmentationScore(2)
    counter.confusion_KK += 2**40
    counter.update(torch.zeros(1, 1, 1, dtype=torch.uint8), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert int(counter.confusion_KK[0, 0]) == 2**40 + 1


def test_counting_without_waiting_counts_the_same() -> None:
    cells = torch.randint(0, 40, (1001,), generator=torch.Generator().manual_seed(0))
    assert count_without_waiting(cells, 50).tolist() == cells.bincount(minlength=50).tolist()


def test_a_class_that_no_label_has_is_an_error_of_the_true_class_only() -> None:
    labels = torch.zeros(1, 2, 10, dtype=torch.long)
    labels[:, 1] = 1
    predictions = labels.clone()
    predictions[0, 0, 0] = 2  # one pixel of class 2, which no label has
    ours, theirs = SegmentationScore(4), SegmentationScore(4, over="seen")
    mmseg = MulticlassJaccardIndex(4, average="macro", ignore_index=VOID)
    for counter in (ours, theirs, mmseg):
        counter.update(predictions, labels)
    found = ours.compute()
    assert found.ious == [0.9, 1.0, None, None]
    assert (found.miou, found.num_classes) == (pytest.approx(0.95), 2)
    assert theirs.compute().ious == [0.9, 1.0, 0.0, None]
    assert theirs.compute().miou == pytest.approx(float(mmseg.compute()), rel=1e-6)


def test_the_classes_that_count_are_those_of_the_labels_whatever_is_predicted() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 5, 5), generator=rng)
    counted = set()
    for _ in range(5):
        counter = SegmentationScore(6)
        counter.update(torch.randint(0, 6, (2, 5, 5), generator=rng), labels)
        counted.add(tuple(value is not None for value in counter.compute().ious))
    assert counted == {(True,) * 3 + (False,) * 3}
