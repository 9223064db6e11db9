"""Scores of frames against formulas written out here, or against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score, jaccard_score

from kdsweep.data.carla import CLASSES, ROAD, ROAD_LINE, VEHICLE
from kdsweep.deploy.bootstrap import estimate, resample
from kdsweep.deploy.boundary import boundary_f, tolerance_px
from kdsweep.deploy.calibration import NUM_BINS, reliability
from kdsweep.deploy.frame_counts import FrameCounts

NAMES = ["a", "b", "c", "d"]


def frames(num: int, num_classes: int = 4) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(num):
        labels = rng.integers(0, num_classes, (12, 16)).astype(np.uint8)
        wrong = rng.random(labels.shape) < 0.4
        other = rng.integers(0, num_classes, labels.shape)
        predicted = np.where(wrong, other, labels).astype(np.uint8)
        labels[rng.random(labels.shape) < 0.1] = 255
        found.append((labels, predicted, rng.uniform(0.25, 1, labels.shape)))
    return found


def counted(given: list, **options: object) -> FrameCounts:
    counts = FrameCounts(options.pop("classes", NAMES), **options)
    for labels, predicted, confidence in given:
        counts.add(labels, predicted, confidence)
    return counts


def test_scores_are_scikit_learns_on_any_weighting_of_the_frames() -> None:
    given = frames(5)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 3]], np.float64)
    scores = counted(given).scores(weights)
    for row, weight in enumerate(weights):
        drawn = [i for i, times in enumerate(weight) for _ in range(int(times))]
        labels = np.concatenate([given[i][0].ravel() for i in drawn])
        predicted = np.concatenate([given[i][1].ravel() for i in drawn])[labels != 255]
        labels = labels[labels != 255]
        ious = jaccard_score(labels, predicted, average=None)
        assert scores["miou"][row] == pytest.approx(ious.mean(), abs=1e-12)
        assert scores["pixel_accuracy"][row] == pytest.approx(accuracy_score(labels, predicted))
        for name, iou in zip(NAMES, ious, strict=True):
            assert scores[f"iou/{name}"][row] == pytest.approx(iou, abs=1e-12)
    assert "lyft/score" not in scores


def test_a_class_without_labels_counts_only_as_mmseg_and_torchmetrics_have_it() -> None:
    given = [(labels.clip(0, 1), predicted, sure) for labels, predicted, sure in frames(3)]
    scores = counted(given).scores(np.ones((1, 3)))
    labels, predicted = (np.concatenate([frame[i].ravel() for frame in given]) for i in (0, 1))
    ious = jaccard_score(labels, predicted, average=None)
    assert (ious[2:] == 0).all()
    assert scores["miou_seen"][0] == pytest.approx(ious.mean())
    assert scores["miou"][0] == pytest.approx(ious[:2].mean())
    assert np.isnan(scores["iou/c"][0])


def test_the_challenges_score_is_that_of_road_with_lines_and_of_vehicles_without_hood() -> None:
    given = frames(4, len(CLASSES))
    whole = counted(given, classes=CLASSES).scores(np.ones((1, 4)))
    cut = counted(given, classes=CLASSES, has_hood=True).scores(np.ones((1, 4)))
    for scores, hood in ((whole, False), (cut, True)):
        labels, predicted = (np.stack([frame[i] for frame in given]).copy() for i in (0, 1))
        if hood:
            lower = labels[:, round(12 * 496 / 600) :]
            lower[lower == VEHICLE] = 255
        ours, theirs = predicted[labels != 255], labels[labels != 255]
        roads = (ROAD, ROAD_LINE)
        road = fbeta_score(np.isin(theirs, roads), np.isin(ours, roads), beta=0.5)
        vehicle = fbeta_score(theirs == VEHICLE, ours == VEHICLE, beta=2)
        assert scores["lyft/road_f05"][0] == pytest.approx(road)
        assert scores["lyft/vehicle_f2"][0] == pytest.approx(vehicle)
        assert scores["lyft/score"][0] == pytest.approx((road + vehicle) / 2)
    assert cut["miou"] == whole["miou"]  # the hood counts in all else, as the labels have it
    assert cut["lyft/vehicle_f2"] != whole["lyft/vehicle_f2"]


def test_the_challenges_score_by_hand() -> None:
    labels, predicted = np.zeros((2, 1, 10), np.uint8)
    labels[0, :4], predicted[0, 1:7] = ROAD, ROAD  # 3 hits, precision 1/2, recall 3/4
    labels[0, 8:], predicted[0, 9:] = VEHICLE, VEHICLE  # 1 hit, precision 1, recall 1/2
    scores = counted([(labels, predicted, np.ones((1, 10)))], classes=CLASSES)
    found = scores.scores(np.ones((1, 1)))
    assert found["lyft/road_f05"][0] == pytest.approx(1.25 * 0.375 / (0.25 * 0.5 + 0.75))
    assert found["lyft/vehicle_f2"][0] == pytest.approx(5 * 0.5 / (4 * 1 + 0.5))


def test_boundary_f_of_a_moved_edge() -> None:
    size = (96, 128)
    assert tolerance_px(size) == pytest.approx(1.2)  # 0.75 % of 160
    assert tolerance_px((8, 8)) == 1.0
    labels = np.zeros(size, np.uint8)
    labels[:, 64:] = 1
    for shift, expected in ((0, 1.0), (1, 1.0), (2, 0.0)):
        predicted = np.zeros(size, np.uint8)
        predicted[:, 64 + shift :] = 1
        found = boundary_f(labels, predicted, 4)
        assert found[:2].tolist() == [expected, expected]
        assert np.isnan(found[2:]).all()


def test_boundary_f_weighs_precision_and_recall() -> None:
    labels = np.zeros((96, 128), np.uint8)
    labels[:, 64:] = 1
    predicted = labels.copy()
    predicted[40:50, 10:20] = 1  # an outline that is not there: 36 pixels inside, 40 outside
    found = boundary_f(labels, predicted, 2)
    for k, stray in ((1, 36), (0, 40)):
        precision = 96 / (96 + stray)
        assert found[k] == pytest.approx(2 * precision / (precision + 1))


def test_boundary_f_of_classes_that_are_missing_or_void() -> None:
    labels = np.zeros((96, 128), np.uint8)
    predicted = labels.copy()
    assert boundary_f(labels, predicted, 2)[0] == 1.0  # fills the frame: no outline to miss
    predicted[:, 100:] = 1
    found = boundary_f(labels, predicted, 2)
    assert found.tolist() == [0.0, 0.0]
    labels[:, 100:] = 255  # nothing is known there, so nothing is wrong either
    found = boundary_f(labels, predicted, 2)
    assert found[0] == 1.0
    assert math.isnan(found[1])


def test_mean_boundary_f_is_over_a_frames_classes_then_over_frames() -> None:
    good = np.zeros((96, 128), np.uint8)
    good[:, 64:] = 1
    bad = good.copy()
    bad[:, 60:] = 2
    ones = np.ones(good.shape)
    counts = counted([(good, good, ones), (good, bad, ones)])
    scores = counts.scores(np.array([[1.0, 1.0], [0.0, 1.0]]))
    # In the second frame 0 is off by four columns, 1 is missed and 2 is not there.
    assert scores["boundary_f"].tolist() == [pytest.approx(0.5), 0.0]
    assert scores["boundary_f/b"].tolist() == [0.5, 0.0]
    assert scores["boundary_f/c"].tolist() == [0.0, 0.0]
    assert np.isnan(scores["boundary_f/d"]).all()


def test_calibration_error_by_hand() -> None:
    labels = np.zeros((1, 10), np.uint8)
    predicted = np.array([[0, 0, 0, 1, 0, 0, 1, 1, 0, 0]], np.uint8)
    confidence = np.array([[0.95] * 4 + [0.61] * 4 + [0.3, 0.3]])
    labels[0, 9] = 255
    counts = counted([(labels, predicted, confidence)], classes=["a", "b"])
    # Of 9 pixels: 4 at 0.95 of which 3 are right, 4 at 0.61 of which 2, one right one at 0.3.
    expected = (4 * abs(0.95 - 0.75) + 4 * abs(0.61 - 0.5) + abs(0.3 - 1.0)) / 9
    assert counts.scores(np.ones((1, 1)))["ece"][0] == pytest.approx(expected)
    rows = reliability(counts.bins_3B)
    assert len(rows) == NUM_BINS == 15
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[14]["accuracy"] == 0.75
    assert rows[14]["confidence"] == pytest.approx(0.95)
    assert rows[9]["share"] == pytest.approx(4 / 9)
    assert rows[0]["accuracy"] is None


def test_labels_without_a_single_pixel_give_no_numbers_and_no_warnings() -> None:
    void = np.full((4, 4), 255, np.uint8)
    counts = counted([(void, np.zeros_like(void), np.ones(void.shape))] * 2)
    for values in counts.scores(np.ones((1, 2))).values():
        assert np.isnan(values).all()


def test_resamples_are_seeded_and_start_with_the_frames_themselves() -> None:
    weights = resample(7, 50)
    assert weights.shape == (51, 7)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 7).all()
    assert (weights == resample(7, 50)).all()
    assert (weights != resample(7, 50, seed=1)).any()


def test_an_interval_of_one_frame_says_nothing() -> None:
    found = estimate(np.array([0.5, 0.5]), num_frames=1)
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert found.to_json() == {"value": 0.5, "low": None, "high": None}


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Accuracy of frames that differ: each frame has its own chance p of a pixel to be right, p
    # uniform in 0.5 to 0.9, so the accuracy over all frames there could be is 0.7.
    rng = np.random.default_rng(0)
    num_frames, num_runs, pixels = 60, 300, 400
    weights = resample(num_frames, 400)
    covered = 0
    for _ in range(num_runs):
        right = rng.binomial(pixels, rng.uniform(0.5, 0.9, num_frames))
        counts = FrameCounts(["a", "b"], calibration=False)
        for hits in right:
            counts._confusions.append(np.array([[hits, pixels - hits], [0, 0]]))
            counts._boundaries.append(np.full(2, math.nan))
        found = estimate(counts.scores(weights)["pixel_accuracy"], num_frames)
        covered += found.low <= 0.7 <= found.high
    assert 0.91 <= covered / num_runs <= 0.98
