"""Hold-outs that keep neighbours together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsweep.config.splits import HoldoutConfig, PartsConfig
from kdsweep.data.source import Frame
from kdsweep.data.splitting import (
    Holdout,
    Parts,
    Recording,
    evenly_spaced,
    natural_order,
    split_rule,
)
from kdsweep.errors import ConfigError


def _recordings(lengths: Sequence[int]) -> list[Recording]:
    return [
        Recording("part", [Frame(f"{r}/{i}", Path("i"), Path("m")) for i in range(length)])
        for r, length in enumerate(lengths)
    ]


def _num_borders(lengths: Sequence[int], holdout: Holdout) -> int:
    """How often neighbours of one recording are on different sides."""
    splits = holdout.split(_recordings(lengths))
    side = {frame.name: name for name, frames in splits.items() for frame in frames}
    return sum(
        side[f"{r}/{i}"] != side[f"{r}/{i + 1}"]
        for r, length in enumerate(lengths)
        for i in range(length - 1)
    )


def test_blocks_are_drawn_whole() -> None:
    holdout = Holdout(val=0.2, test=0.1, block=50, seed=0)
    splits = holdout.split(_recordings([1000]))
    assert {name: len(frames) for name, frames in splits.items()} == {
        "train": 700,
        "val": 200,
        "test": 100,
    }
    # 6 blocks of 50 held out: at most two borders each.
    assert _num_borders([1000], holdout) <= 12
    numbers = [int(frame.name.split("/")[1]) for frame in splits["val"]]
    assert numbers == sorted(numbers)


def test_short_recordings_are_held_out_whole() -> None:
    # The frames published as a sample: six of one recording, two of one frame each.
    holdout = Holdout(val=0.2, test=0.0, block=50, seed=0)
    splits = holdout.split(_recordings([6, 1, 1]))
    assert set(splits) == {"train", "val"}  # nobody asked for a test split
    assert [frame.name for frame in splits["val"]] == ["1/0", "2/0"]
    assert _num_borders([6, 1, 1], holdout) == 0


@pytest.mark.parametrize("seed", range(5))
def test_one_short_recording_gives_one_run(seed: int) -> None:
    holdout = Holdout(val=0.2, test=0.0, block=50, seed=seed)
    splits = holdout.split(_recordings([20]))
    assert 2 <= len(splits["val"]) <= 6
    assert _num_borders([20], holdout) <= 2


def test_the_seed_chooses_the_blocks() -> None:
    drawn = [
        tuple(f.name for f in Holdout(0.2, 0.0, 10, seed).split(_recordings([300]))["val"])
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8).filter(lambda x: sum(x) >= 4),
    val=st.floats(0.05, 0.6),
    test=st.sampled_from([0.0, 0.2, 0.35]),
    block=st.integers(1, 60),
)
def test_every_frame_is_in_one_split_and_none_is_empty(
    lengths: list[int], val: float, test: float, block: int
) -> None:
    splits = Holdout(val, test, block, seed=3).split(_recordings(lengths))
    names = [frame.name for frames in splits.values() for frame in frames]
    assert len(names) == len(set(names)) == sum(lengths)
    assert splits["train"]
    assert splits["val"]


def test_one_frame_leaves_val_empty() -> None:
    splits = Holdout(0.2, 0.0, 50, 0).split(_recordings([1]))
    assert len(splits["train"]) == 1
    assert not splits["val"]


def test_evenly_spaced_covers_the_whole() -> None:
    frames = list(_recordings([100])[0].frames)
    chosen = [int(frame.name.split("/")[1]) for frame in evenly_spaced(frames, 4)]
    assert chosen == [12, 37, 62, 87]
    assert evenly_spaced(frames, None) == frames
    assert evenly_spaced(frames, 500) == frames


def test_natural_order() -> None:
    names = ["f_10", "f_9", "f_9a", "a/2", "a/10"]
    ordered = sorted(map(Path, names), key=natural_order)
    assert [p.as_posix() for p in ordered] == ["a/2", "a/10", "f_9", "f_9a", "f_10"]


def test_only_frames_of_the_named_parts_are_used() -> None:
    recordings = [
        Recording(part, [Frame(f"{part}/{i}", Path("i"), Path("m")) for i in range(40)])
        for part in ("town", "country", "motorway")
    ]
    parts = ("motorway", "town")
    splits = Holdout(val=0.25, test=0.0, block=5, seed=0, parts=parts).split(recordings)
    used = sorted(frame.name for frames in splits.values() for frame in frames)
    assert used == sorted(f"{part}/{i}" for part in parts for i in range(40))


def test_blocks_are_halved_until_they_fit() -> None:
    # 12 of 100 frames in blocks of 50 cannot be held out; 25, 13 and 7 are tried in turn.
    splits = Holdout(val=0.12, test=0.0, block=50, seed=0).split(_recordings([100]))
    assert len(splits["val"]) == 13
    first = int(splits["val"][0].name.split("/")[1])
    assert [int(f.name.split("/")[1]) for f in splits["val"]] == list(range(first, first + 13))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("lengths", "wanted", "block", "allowed"),
    [
        # 2 of the 10 that are wanted are too few, so the long ones are cut; 17 would be too many.
        ([30, 30, 2], 10, 30, range(5, 16)),
        # Exactly half and exactly one and a half are near enough; a block that would bring the
        # total no closer is left out.
        ([8, 8, 2], 4, 8, [2]),
        ([120], 40, 60, [60]),
        # One frame is the least, for which blocks are cut down to single frames.
        ([10], 0.5, 2, [1]),
        ([4], 1, 2, [1]),
    ],
)
def test_what_is_held_out_is_near_what_was_asked_for(
    seed: int, lengths: list[int], wanted: float, block: int, allowed: Sequence[int]
) -> None:
    holdout = Holdout(val=wanted / sum(lengths), test=0.0, block=block, seed=seed)
    assert len(holdout.split(_recordings(lengths))["val"]) in allowed


def _towns() -> list[Recording]:
    return [
        Recording(part, [Frame(f"{part}/{i}", Path("i"), Path("m")) for i in range(2)])
        for part in ("berlin", "bonn", "jena")
    ]


def test_named_parts_are_the_splits() -> None:
    rule = split_rule(PartsConfig(train=("jena", "berlin"), val=("bonn",)))
    splits = rule.split(_towns())
    names = {split: [frame.name for frame in frames] for split, frames in splits.items()}
    assert names == {
        "train": ["jena/0", "jena/1", "berlin/0", "berlin/1"],
        "val": ["bonn/0", "bonn/1"],
    }


def test_a_section_says_which_frames_are_held_out() -> None:
    assert split_rule(HoldoutConfig(val=0.5, test=0.1, block=2, seed=7)) == Holdout(0.5, 0.1, 2, 7)
    rule = split_rule(HoldoutConfig(val=0.5, parts=("bonn",)))
    used = {frame.name for frames in rule.split(_towns()).values() for frame in frames}
    assert used == {"bonn/0", "bonn/1"}


def test_a_part_that_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(ConfigError, match="did you mean `bonn`") as caught:
        Parts(train=("berlin",), val=("bon",)).split(_towns())
    assert caught.value.path == ("data", "split", "val", 0)
    with pytest.raises(ConfigError, match="or leave `parts` out for all"):
        Holdout(0.2, 0.0, 1, 0, parts=("xyz",)).split(_towns())


def test_numbers_in_names_stand_before_words() -> None:
    names = ["b", "10", "a2", "9", "a10"]
    assert sorted(names, key=lambda name: natural_order(Path(name))) == [
        "9",
        "10",
        "a2",
        "a10",
        "b",
    ]


def test_of_several_draws_the_first_that_keeps_all_classes_is_taken() -> None:
    frames = [Frame(f"{i:03d}", Path(f"{i}.jpg"), Path(f"{i}.png")) for i in range(120)]
    recordings = [Recording("a", frames)]
    # The second class occurs in two runs, so most hold-outs of a fifth have none of it.
    rare = {*range(20, 26), *range(90, 96)}
    plain = Holdout(0.2, 0.0, block=8, seed=1)

    def classes_in(given: Sequence[Frame]) -> list[frozenset[int]]:
        return [frozenset({0, 1} if int(frame.name) in rare else {0}) for frame in given]

    def with_rare(rule: Holdout) -> dict[str, int]:
        found = rule.split(recordings)
        return {name: sum(int(f.name) in rare for f in split) for name, split in found.items()}

    stratified = replace(plain, classes_in=classes_in)
    assert 0 in with_rare(plain).values()
    assert 0 not in with_rare(stratified).values()
    assert 0.1 < len(stratified.split(recordings)["val"]) / 120 < 0.3
    # Where nothing is lost, nothing changes.
    everywhere = replace(plain, classes_in=lambda given: [frozenset({0, 1})] * len(given))
    assert everywhere.split(recordings) == plain.split(recordings)


def test_shares_that_take_every_frame_leave_one_to_train_on() -> None:
    found = Holdout(0.5625, 0.35, block=1, seed=3).split(_recordings([5]))
    assert {name: len(frames) for name, frames in found.items()} == {
        "train": 1,
        "val": 3,
        "test": 1,
    }
