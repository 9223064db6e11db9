"""Splitting frames that come without a published split, so that neighbours stay together.

Frames of one recording are a fraction of a second apart: drawn at random, almost every validation
frame would have a twin in the training split and the score would measure memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kdsweep.config.splits import HoldoutConfig, PartsConfig
from kdsweep.data.source import Frame, SplitName
from kdsweep.errors import ConfigError, did_you_mean

T = TypeVar("T")
NUM_DRAWS = 64


@dataclass(frozen=True)
class Recording:
    """Frames that follow each other, and the part of the data set that they belong to."""

    part: str
    frames: Sequence[Frame]


@dataclass(frozen=True)
class Parts:
    """A split by named parts."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    def split(self, recordings: Sequence[Recording]) -> Mapping[SplitName, list[Frame]]:
        """Frames of each split; parts that no split names are left out.

        Raises:
            ConfigError: A split names a part that the data does not have.
        """
        known = _parts_of(recordings)
        splits: dict[SplitName, list[Frame]] = {}
        named: list[tuple[SplitName, tuple[str, ...]]] = [
            ("train", self.train),
            ("val", self.val),
            ("test", self.test),
        ]
        for split, parts in named:
            _check_parts(parts, known, split, "or use a hold-out: {val: 0.2}")
            if parts:
                splits[split] = [
                    f for part in parts for r in recordings if r.part == part for f in r.frames
                ]
        return splits


@dataclass(frozen=True)
class Holdout:
    """A seeded hold-out of contiguous blocks.

    Each recording is cut into blocks of (nearly) equal length, at most ``block`` frames; blocks are
    drawn whole, so only frames at a border between two blocks have a neighbour on the other side.
    In a set too small for that, ``block`` is halved until the held-out shares come within a half of
    what was asked for. So a few short recordings are held out whole, and a single recording gives
    one contiguous run.

    Attributes:
        val, test: Shares held out.
        block: Frames in a block, at most.
        seed: Which blocks are drawn.
        parts: Parts that are used at all; all if there are none.
        classes_in: Gives the classes of each frame. With it, of ``NUM_DRAWS`` draws the first is
            taken that leaves the fewest classes out of a split.
    """

    val: float
    test: float
    block: int
    seed: int
    parts: tuple[str, ...] = ()
    classes_in: Callable[[Sequence[Frame]], Sequence[frozenset[int]]] | None = None

    def split(self, recordings: Sequence[Recording]) -> Mapping[SplitName, list[Frame]]:
        """Frames of each split, in their order; with fewer than two frames, val stays empty.

        Raises:
            ConfigError: ``parts`` names one that the data does not have.
        """
        if self.parts:
            _check_parts(self.parts, _parts_of(recordings), "parts", "or leave `parts` out for all")
            recordings = [r for r in recordings if r.part in self.parts]
        frames = [frame for recording in recordings for frame in recording.frames]
        shares: dict[SplitName, float] = {"val": self.val}
        if self.test > 0:
            shares["test"] = self.test
        block = self.block
        while True:
            blocks = _blocks(recordings, block)
            taken = self._draw([len(positions) for positions in blocks], len(frames), shares)
            if taken is not None or block == 1:
                break
            block = (block + 1) // 2
        if taken and self.classes_in is not None:
            taken = self._stratified(taken, blocks, self.classes_in(frames), shares)
        side = _sides(taken or {}, blocks)
        names: list[SplitName] = ["train", *shares]
        return {
            name: [frame for i, frame in enumerate(frames) if side.get(i, "train") == name]
            for name in names
        }

    def _stratified(
        self,
        taken: dict[SplitName, list[int]],
        blocks: list[list[int]],
        classes: Sequence[frozenset[int]],
        shares: Mapping[SplitName, float],
    ) -> dict[SplitName, list[int]]:
        """The first of several draws that leaves the fewest classes out of a split."""
        lengths = [len(positions) for positions in blocks]
        every = frozenset[int]().union(*classes)

        def num_lost(taken: dict[SplitName, list[int]]) -> int:
            side = _sides(taken, blocks)
            lost = 0
            for name in ("train", *shares):
                held = (c for i, c in enumerate(classes) if side.get(i, "train") == name)
                lost += len(every.difference(*held))
            return lost

        best, fewest = taken, num_lost(taken)
        for attempt in range(1, NUM_DRAWS):
            if not fewest:
                break
            drawn = self._draw(lengths, len(classes), shares, (self.seed, attempt))
            if drawn is not None and num_lost(drawn) < fewest:
                best, fewest = drawn, num_lost(drawn)
        return best

    def _draw(
        self,
        lengths: list[int],
        num_frames: int,
        shares: Mapping[SplitName, float],
        seed: int | tuple[int, int] | None = None,
    ) -> dict[SplitName, list[int]] | None:
        """Blocks of each held-out split, or None where blocks of these lengths do not fit."""
        rng = np.random.default_rng(self.seed if seed is None else seed)
        order = [int(i) for i in rng.permutation(len(lengths))]
        taken: dict[SplitName, list[int]] = {}
        for split, share in shares.items():
            wanted = max(1.0, share * num_frames)
            chosen: list[int] = []
            total = 0
            # Where blocks cannot get smaller, one is left for training.
            for index in order[:-1] if max(lengths, default=1) == 1 else order:
                # A block goes in if that brings the total closer to what was asked for.
                if abs(total + lengths[index] - wanted) < abs(total - wanted):
                    chosen.append(index)
                    total += lengths[index]
            if not 0.5 * wanted <= total <= 1.5 * wanted:
                return None
            order = [index for index in order if index not in chosen]
            taken[split] = chosen
        return taken if order else None


def _sides(
    taken: Mapping[SplitName, Sequence[int]], blocks: Sequence[Sequence[int]]
) -> dict[int, SplitName]:
    """The held-out split of each frame that is in one."""
    return {
        position: split for split, chosen in taken.items() for b in chosen for position in blocks[b]
    }


def split_rule(
    config: PartsConfig | HoldoutConfig,
    classes_in: Callable[[Sequence[Frame]], Sequence[frozenset[int]]] | None = None,
) -> Parts | Holdout:
    """Return the rule that a section ``split`` describes.

    Args:
        config: The section.
        classes_in: Gives the classes of each frame, where a hold-out should look at them.
    """
    if isinstance(config, PartsConfig):
        return Parts(config.train, config.val, config.test)
    parts = config.parts or ()
    return Holdout(config.val, config.test, config.block, config.seed, parts, classes_in)


def _parts_of(recordings: Sequence[Recording]) -> list[str]:
    return list(dict.fromkeys(recording.part for recording in recordings))


def _check_parts(parts: Sequence[str], known: Sequence[str], key: str, otherwise: str) -> None:
    for position, part in enumerate(parts):
        if part not in known:
            raise ConfigError(
                "the data has no such part",
                path=("data", "split", key, position),
                value=part,
                allowed=known,
                hint=did_you_mean(part, known) or f"name parts the folder has, {otherwise}",
            )


def _blocks(recordings: Sequence[Recording], block: int) -> list[list[int]]:
    """Positions (over all frames) of the frames in each block."""
    blocks: list[list[int]] = []
    start = 0
    for recording in recordings:
        positions = np.arange(start, start + len(recording.frames))
        num_blocks = -(-len(positions) // block)
        blocks += [[int(p) for p in run] for run in np.array_split(positions, num_blocks)]
        start += len(recording.frames)
    return blocks


def evenly_spaced(frames: Sequence[T], num: int | None) -> list[T]:
    """At most ``num`` frames, evenly spaced over all of them."""
    if num is None or num >= len(frames):
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / num)] for i in range(num)]


def natural_order(path: Path) -> list[tuple[int, int | str]]:
    """Sorting key that puts ``frame_9`` before ``frame_10``."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces if piece]
