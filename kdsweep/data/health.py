"""What is wrong with a data set that was read: looked for before anything is trained on it.

Shape suffixes: K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kdsweep.config.data import Problem
from kdsweep.data.dataset import SegmentationData
from kdsweep.data.facts import SplitFacts
from kdsweep.data.fit import fits_of, misfit
from kdsweep.data.source import Source, SplitName
from kdsweep.data.split import Split
from kdsweep.labels import VOID

_MOST_OF_ONE, _MOST_VOID = 0.99, 0.5
# Bits of 64 in which the looks of two frames may differ to be called alike.
_ALIKE_BITS = 2
_ASPECT = 1.1
_CHUNK = 256


@dataclass(frozen=True)
class Finding:
    """Something that should be known before a number on this data is believed.

    Attributes:
        text: What it is, as a sentence without its end.
        problem: Its name for ``data.accept``; ``None`` for what stops nothing.
        hint: What to do about it.
        lasting: Whether it is to be said wherever scores on this data stand.
    """

    text: str
    problem: Problem | None = None
    hint: str | None = None
    lasting: bool = False


@dataclass(frozen=True)
class SplitHealth:
    """One split, counted at the size of its files.

    Attributes:
        num_frames: Frames.
        shares_K: Share of each class in the labelled pixels.
        frames_K: Frames in which each class occurs.
        void: Share of void in all pixels.
        sizes: Number of frames by (height, width), the most frequent first.
    """

    num_frames: int
    shares_K: np.ndarray
    frames_K: np.ndarray
    void: float
    sizes: dict[tuple[int, int], int]


@dataclass(frozen=True)
class Health:
    """A data set that was looked through.

    Attributes:
        splits: By name, those that there are.
        findings: What was found, problems first.
        fits: Whether labels fit images could be told, which takes some frames.
    """

    data: SegmentationData
    splits: dict[SplitName, SplitHealth]
    findings: tuple[Finding, ...]
    fits: bool

    @property
    def remarks(self) -> list[str]:
        """What stops nothing but should be said once."""
        return [finding.text for finding in self.findings if finding.problem is None]

    @property
    def caveats(self) -> list[str]:
        """What should be said wherever scores on this data stand."""
        return [finding.text for finding in self.findings if finding.lasting or finding.problem]

    def refusal(self, accept: Sequence[str]) -> str | None:
        """Return why nothing should be trained on it, with what to do; ``None`` if it may be.

        Args:
            accept: Names of problems that are known and wanted.
        """
        refused = [f for f in self.findings if f.problem is not None and f.problem not in accept]
        if not refused:
            return None
        data = self.data
        lines = [f"{data.name}: {data.source_path} should not be trained on as it is"]
        for finding in refused:
            lines.append(f"  {finding.text}")
            lines += [f"    try:   {finding.hint}"] if finding.hint else []
        names = ", ".join(dict.fromkeys(str(finding.problem) for finding in refused))
        lines.append(f"  or, if it is meant: accept: [{names}] in the `data:` section")
        return "\n".join(lines)


def look_through(data: SegmentationData) -> Health:
    """Look through a data set, and refuse nothing."""
    assert data.source is not None, "frames that were made up are not looked through"
    named: list[tuple[SplitName, Split | None]] = [
        ("train", data.train),
        ("val", data.val),
        ("test", data.test),
    ]
    splits = {name: split for name, split in named if split is not None}
    facts = {name: split.facts for name, split in splits.items() if split.facts is not None}
    counted = {name: _counted(found, len(data.classes)) for name, found in facts.items()}
    fits = fits_of(data.train, len(data.classes))
    overlaps = list(_overlaps(splits, facts))
    unlabelled = None if data.unlabelled is None else data.unlabelled.facts
    findings = [
        *_class_findings(data.source, counted),
        *overlaps,
        *([] if fits is None else _misfits(misfit(fits))),
        *([] if overlaps else _near_duplicates(facts)),
        *_turned(facts),
        *_seen_without_labels(facts, unlabelled),
        *_size_findings(data, counted),
        *(Finding(caveat, lasting=True) for caveat in data.source.caveats),
        *(Finding(remark) for remark in data.source.remarks),
    ]
    findings.sort(key=lambda finding: finding.problem is None)
    return Health(data, counted, tuple(findings), fits is not None)


def _counted(facts: SplitFacts, num_classes: int) -> SplitHealth:
    pixels_V = facts.pixels_NV.sum(0)
    labelled = max(int(pixels_V[:num_classes].sum()), 1)
    sizes, counts = np.unique(facts.sizes_N2, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return SplitHealth(
        num_frames=len(facts.looks_N),
        shares_K=pixels_V[:num_classes] / labelled,
        frames_K=(facts.pixels_NV[:, :num_classes] > 0).sum(0),
        void=float(pixels_V[VOID] / max(pixels_V.sum(), 1)),
        sizes={(int(sizes[i][0]), int(sizes[i][1])): int(counts[i]) for i in order},
    )


def _class_findings(source: Source, counted: dict[SplitName, SplitHealth]) -> Iterator[Finding]:
    train, val = counted.get("train"), counted.get("val")
    if train is None or val is None:
        return
    names = source.classes
    untrained = [name for k, name in enumerate(names) if not train.frames_K[k]]
    if untrained:
        # A published list of classes is as it is; what users list themselves they expect to occur.
        text = f"no labelled pixel in the {_frames(train, 'training')}: {_list(untrained)}"
        if source.own_classes:
            yield Finding(text, "empty_class", source.explain_masks())
        else:
            yield Finding(text, lasting=True)
    unseen = [n for k, n in enumerate(names) if train.frames_K[k] and not val.frames_K[k]]
    if unseen:
        yield Finding(
            f"no labelled pixel in the {_frames(val, 'validation')}, so not scored: "
            f"{_list(unseen)}",
            lasting=True,
        )
    top = int(train.shares_K.argmax())
    if train.shares_K[top] > _MOST_OF_ONE and not (untrained and source.own_classes):
        yield Finding(
            f"{train.shares_K[top]:.1%} of the labelled training pixels are {names[top]}: "
            "a network that knows nothing else scores well",
            "one_class",
            source.explain_masks(),
        )
    if train.void > _MOST_VOID:
        yield Finding(
            f"{train.void:.1%} of the training pixels are void, which is neither trained on nor "
            "scored",
            "mostly_void",
            source.explain_masks(),
        )


def _frames(split: SplitHealth, name: str) -> str:
    return f"{split.num_frames} {name} frames" if split.num_frames != 1 else f"only {name} frame"


def _overlaps(
    splits: dict[SplitName, Split], facts: dict[SplitName, SplitFacts]
) -> Iterator[Finding]:
    pairs: list[tuple[SplitName, SplitName]] = [
        ("val", "train"),
        ("test", "train"),
        ("test", "val"),
    ]
    for one, other in pairs:
        if one not in facts or other not in facts:
            continue
        place = {bytes(d): i for i, d in enumerate(facts[other].digests_N2[:, 0])}
        mine_by_place = enumerate(map(bytes, facts[one].digests_N2[:, 0]))
        twins = [(i, place[content]) for i, content in mine_by_place if content in place]
        if twins:
            mine, theirs = twins[0]
            yield Finding(
                f"{len(twins)} of {len(splits[one])} {_LONG[one]} frames are {_LONG[other]} "
                "frames: "
                f"{splits[one].names[mine]} is {splits[other].names[theirs]}",
                "overlap",
                "take the frames out of one of the splits",
            )


def _seen_without_labels(
    facts: dict[SplitName, SplitFacts], unlabelled: SplitFacts | None
) -> Iterator[Finding]:
    for name, long in (("val", "validation"), ("test", "test")):
        if unlabelled is None or name not in facts:
            continue
        images = [set(map(bytes, each.digests_N2[:, 0])) for each in (facts[name], unlabelled)]
        num_both = len(images[0] & images[1])
        if num_both:
            yield Finding(
                f"{num_both} of {len(images[0])} {long} frames are trained on without their "
                "labels: scores on them say little about roads that were never seen",
                lasting=True,
            )


_LONG = {"train": "training", "val": "validation", "test": "test"}


def _near_duplicates(facts: dict[SplitName, SplitFacts]) -> Iterator[Finding]:
    if "train" not in facts or "val" not in facts:
        return
    train, val = facts["train"].looks_N, facts["val"].looks_N
    num_alike = 0
    for start in range(0, len(val), _CHUNK):
        differing = _num_bits(val[start : start + _CHUNK, None] ^ train[None])
        num_alike += int((differing.min(1) <= _ALIKE_BITS).sum())
    if num_alike > 0.1 * len(val):
        yield Finding(
            f"{num_alike} of {len(val)} validation frames look almost like a training frame: "
            "scores on them say little about new scenes",
            lasting=True,
        )


def _turned(facts: dict[SplitName, SplitFacts]) -> Iterator[Finding]:
    number = sum(int(found.turned_N.sum()) for found in facts.values())
    if number:
        yield Finding(f"{number} images are turned as their EXIF note says")


def _num_bits(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each uint64."""
    return _BITS[words[..., None].view(np.uint8)].sum(-1, dtype=np.uint8)


_BITS = np.array([number.bit_count() for number in range(256)], np.uint8)


def _misfits(what: str | None) -> list[Finding]:
    return (
        []
        if what is None
        else [Finding(f"the masks fit {what} (kdsweep data --sheet shows them)", lasting=True)]
    )


def _size_findings(
    data: SegmentationData, counted: dict[SplitName, SplitHealth]
) -> Iterator[Finding]:
    sizes = {size for split in counted.values() for size in split.sizes}
    if len(sizes) > 1:
        yield Finding(f"frames of {len(sizes)} sizes, all of which become image_size")
    height, width = data.train.image_size
    wanted = width / height
    for tall, wide in sorted(sizes, reverse=True):
        squeeze = (wide / tall) / wanted
        if max(squeeze, 1 / squeeze) > _ASPECT:
            yield Finding(
                f"frames of {wide}×{tall} are squeezed into {width}×{height}: their shape changes "
                f"by {max(squeeze, 1 / squeeze) - 1:.0%}"
            )
            return


def _list(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)})" if len(names) > most else "")
