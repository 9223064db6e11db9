"""Steps of post-processing: how they are written, what they do to a frame, which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from kdsweep.deploy.steps import KINDS, STAGES, Step, missing_for, parse_steps, step_text, views_of
from kdsweep.deploy.tta import Views
from kdsweep.errors import ConfigError

SIZE = (40, 60)


def told(labels: np.ndarray, sure: float = 0.9, num_classes: int = 3) -> np.ndarray:
    """Probabilities under which the labels have this one, and the others share the rest."""
    rest = (1 - sure) / (num_classes - 1)
    return np.where(np.eye(num_classes, dtype=bool)[labels], sure, rest).astype(np.float32)


def run(step: str, labels: np.ndarray, image: np.ndarray | None = None, sure: float = 0.9):
    (parsed,) = parse_steps(step)
    assert parsed.kind.filter is not None
    if image is None:
        image = np.zeros((*labels.shape, 3), np.uint8)
    probabilities = told(labels, sure)
    return parsed.kind.filter(image, probabilities, labels, parsed.amount)[1]


@pytest.fixture
def halves() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 1
    return labels


def test_steps_are_put_in_order_and_written_as_they_are_read() -> None:
    steps = parse_steps("regions:0.001, majority:2,scale:1.25,flip,teacher:0.5")
    assert step_text(steps) == "flip,scale:1.25,teacher:0.5,majority:2,regions:0.001"
    assert parse_steps(step_text(steps)) == steps
    assert views_of(steps) == Views(flip=True, scale=1.25, teacher=0.5)
    assert parse_steps("none") == ()
    assert step_text(()) == "none"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flop", "unknown step"),
        ("regions", "needs an amount"),
        ("regions:much", "needs an amount"),
        ("regions:0.5", "needs an amount"),
        ("regions:nan", "needs an amount"),
        ("flip:2", "no amount"),
        ("majority:1,opening:1", "exclude each other"),
        ("flip,flip", "exclude each other"),
        ("scale:1.2,scale:1.5", "exclude each other"),
    ],
)
def test_steps_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        parse_steps(text)
    assert raised.value.exit_code == 2


def test_a_slip_is_told_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean `flip`"):
        parse_steps("flop")


def test_every_kind_has_a_stage_and_amounts_that_it_takes_itself() -> None:
    assert {KINDS.get(name).stage for name in KINDS} == set(STAGES)
    for name in KINDS:
        kind = KINDS.get(name)
        assert (kind.views is None) != (kind.filter is None)
        if missing_for(name) is None:
            for amount in kind.tried:
                assert parse_steps(f"{name}:{amount}") == (Step(name, amount),)


def test_small_regions_take_their_neighbours_label(halves: np.ndarray) -> None:
    labels = halves.copy()
    labels[5:7, 5:7] = 2  # 4 of 2400 pixels
    labels[20:30, 40:50] = 2  # 100
    found = run("regions:0.002", labels)
    expected = halves.copy()
    expected[20:30, 40:50] = 2
    assert (found == expected).all()


def test_regions_of_one_class_count_each_for_itself(halves: np.ndarray) -> None:
    labels = halves.copy()
    labels[2, 1:28:4] = 2  # seven pixels, none of which touches another
    assert (run("regions:0.002", labels) == halves).all()


def test_where_every_region_is_small_none_is_removed() -> None:
    labels = (np.indices(SIZE).sum(0) % 2).astype(np.uint8)
    assert (run("regions:0.01", labels) == labels).all()


def test_majority_removes_specks_and_keeps_edges(halves: np.ndarray) -> None:
    labels = halves.copy()
    labels[10, 10] = labels[30, 50] = 2
    assert (run("majority:2", labels) == halves).all()


def test_opening_removes_what_is_thin(halves: np.ndarray) -> None:
    labels = halves.copy()
    labels[:, 10] = 2  # one pixel wide
    labels[5:20, 40:55] = 2
    found = run("opening:1", labels)
    assert (found[:, :30] == 0).all()
    assert (found[8:17, 43:52] == 2).all()


def test_watershed_moves_unsure_labels_to_the_edge_of_the_frame(halves: np.ndarray) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 33:] = 200  # the edge is three columns from where the network put it
    (step,) = parse_steps("watershed:0.7")
    probabilities = told(halves)
    probabilities[:, 27:36] = [0.5, 0.4, 0.1]
    labels = probabilities.argmax(2).astype(np.uint8)
    before = (labels != (image[..., 0] > 0)).sum()
    after = step.kind.filter(image, probabilities, labels, step.amount)[1]
    assert before == 3 * SIZE[0]
    assert (after != (image[..., 0] > 0)).sum() <= SIZE[0]  # within a column of it


def test_watershed_leaves_a_frame_alone_of_which_nothing_is_sure(halves: np.ndarray) -> None:
    assert (run("watershed:0.95", halves, sure=0.5) == halves).all()


def test_the_guided_filter_pulls_probabilities_to_the_edges_of_the_frame(
    halves: np.ndarray,
) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 31:] = 255  # one column beside the labels' edge
    right = image[..., 0] > 0
    assert (run("guided:4", halves, image) == right).mean() > 0.97
    assert (run("guided:4", halves, image) == right).sum() > (halves == right).sum()


def test_the_guided_filter_is_a_mean_of_linear_fits() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    probabilities = told(rng.integers(0, 3, SIZE), sure=0.6)
    (step,) = parse_steps("guided:2")
    assert step.kind.filter is not None
    found = step.kind.filter(image, probabilities, probabilities.argmax(2), step.amount)[0]
    guide, row, column = image / 255.0, 20, 30
    fits = []
    # The definition: ridge regressions in all windows that hold the pixel, at the pixel.
    for y in range(row - 2, row + 3):
        for x in range(column - 2, column + 3):
            colours = guide[y - 2 : y + 3, x - 2 : x + 3].reshape(25, 3)
            values = probabilities[y - 2 : y + 3, x - 2 : x + 3].reshape(25, 3)
            away, differs = colours - colours.mean(0), values - values.mean(0)
            slope = np.linalg.solve(away.T @ away / 25 + 1e-3 * np.eye(3), away.T @ differs / 25)
            fits.append((guide[row, column] - colours.mean(0)) @ slope + values.mean(0))
    assert np.abs(found[row, column] - np.mean(fits, axis=0)).max() < 1e-4


@pytest.mark.parametrize(
    "step",
    ["guided:2", "majority:1", "opening:1", "regions:0.001", "watershed:0.7", "watershed:0.99"],
)
def test_no_filter_changes_a_frame_of_one_class_or_what_it_was_given(step: str) -> None:
    rng = np.random.default_rng(0)
    one = np.full(SIZE, 2, np.uint8)
    assert (run(step, one) == 2).all()
    labels = rng.integers(0, 3, SIZE).astype(np.uint8)
    labels.flags.writeable = False
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    image.flags.writeable = False
    found = run(step, labels, image)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 1, 2}
