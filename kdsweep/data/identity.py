"""What a data set is: its classes and the content of its files, whatever folder they lie in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdsweep.data.fingerprint import fingerprint
from kdsweep.data.source import Source
from kdsweep.data.split import Split
from kdsweep.errors import DataError
from kdsweep.plain_text import counted

_NUM_NAMES = 3


@dataclass(frozen=True)
class Identity:
    """The identity of a data set. Times, folders and the size that frames are resized to have none.

    Attributes:
        source: Name of the source.
        classes: Class names by id.
        options: What else changes the labels of the same files.
        splits: By split and frame, the digests of its image and its mask.
    """

    source: str
    classes: tuple[str, ...]
    options: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, tuple[str, str]]]

    @classmethod
    def of(cls, source: Source, splits: Mapping[Any, Split]) -> Identity | None:
        """Return the identity of what was decoded; ``None`` if that did not look at the files."""
        found: dict[str, dict[str, tuple[str, str]]] = {}
        for name, split in splits.items():
            if split.facts is None:
                return None
            pairs = split.facts.digests_N2.astype(str).tolist()
            found[name] = {
                frame: (image, mask)
                for frame, (image, mask) in zip(split.names, pairs, strict=True)
            }
        options = {key: value for key, value in source.options().items() if key != "classes"}
        return cls(source.name, tuple(source.classes), options, found)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Identity:
        """Return what :meth:`to_json` gave."""
        splits = {
            split: {name: (image, mask) for name, (image, mask) in frames.items()}
            for split, frames in tree["splits"].items()
        }
        return cls(tree["source"], tuple(tree["classes"]), tree["options"], splits)

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """Return the identity that was kept in a file, if it is there and can be read."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """20 hexadecimal digits: those of equal data are equal, on every machine."""
        return fingerprint(self.to_json())

    @property
    def short(self) -> str:
        """A name for people: ``camvid 367+101, a3f9``."""
        train, val, others = (
            len(self.splits.get(split, {})) for split in ("train", "val", "unlabelled")
        )
        unlabelled = f" and {others} unlabelled" if others else ""
        return f"{self.source} {train}+{val}{unlabelled}, {self.fingerprint[:4]}"

    @property
    def name(self) -> dict[str, str]:
        """Both, as they stand in files."""
        return {"fingerprint": self.fingerprint, "short": self.short}


def differences(before: Identity, now: Identity) -> list[str]:
    """Return in which ways data differ, in words; empty where they do not."""
    found = []
    if before.source != now.source:
        found.append(f"source {before.source}, now {now.source}")
    found += _of_classes(before.classes, now.classes)
    keys = [*before.options, *(key for key in now.options if key not in before.options)]
    plain = [json.loads(json.dumps(dict(each.options))) for each in (before, now)]
    changed = [key for key in keys if plain[0].get(key) != plain[1].get(key)]
    if changed:
        found.append(f"what mask values stand for ({', '.join(changed)})")
    found += _of_frames(before, now)
    return found


def changed_data(
    whose: str, before: Mapping[str, str], kept: Identity | None, now: Identity, hint: str
) -> DataError:
    """Return the error that data are not those of before.

    Args:
        whose: Who was trained on them.
        before: ``fingerprint`` and ``short`` of those.
        kept: All that is known of them, if it was kept.
        now: The data that were found.
        hint: What to do.
    """
    lines = ["the files they were are not listed here any more"]
    lines = lines if kept is None else differences(kept, now)
    return DataError(
        f"the data are not those that {whose} was trained on\n"
        f"  before:  {before['short']}\n"
        f"  now:     {now.short}\n"
        + "".join(f"  differs: {line}\n" for line in lines)
        + f"  try:     {hint}"
    )


def _of_classes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    removed = [name for name in before if name not in now]
    added = [name for name in now if name not in before]
    renamed: list[str] = []
    if len(before) == len(now):
        pairs = [pair for pair in zip(before, now, strict=True) if pair[0] != pair[1]]
        if all(old in removed and new in added for old, new in pairs):
            renamed = [f"{old} → {new}" for old, new in pairs]
            removed = added = []
        elif not removed and not added:
            return [f"classes in another order ({_some(now)})"]
    words = (("added", added), ("removed", removed), ("renamed", renamed))
    return [
        f"{counted(len(names), 'class')} {what} ({_some(names)})" for what, names in words if names
    ]


def _of_frames(before: Identity, now: Identity) -> list[str]:
    old, new = _by_frame(before), _by_frame(now)
    found: dict[tuple[str, str, str], list[str]] = {}  # frames by what has happened to them
    for name, (split, image, mask) in new.items():
        was, old_image, old_mask = old.get(name, (split, image, mask))
        for happened, what in (
            (name not in old, (f"{split}: ", "frame", "added")),
            (was != split, ("", "frame", f"moved from {was} to {split}")),
            (image != old_image, (f"{split}: ", "image", "changed")),
            (mask != old_mask, (f"{split}: ", "mask", "changed")),
        ):
            if happened:
                found.setdefault(what, []).append(name)
    for name, (split, _, _) in old.items():
        if name not in new:
            found.setdefault((f"{split}: ", "frame", "removed"), []).append(name)
    return [
        f"{where}{counted(len(names), kind)} {what} ({_some(names)})"
        for (where, kind, what), names in found.items()
    ]


def _by_frame(identity: Identity) -> dict[str, tuple[str, str, str]]:
    """Split, image and mask of each frame."""
    splits = identity.splits.items()
    return {name: (split, *pair) for split, frames in splits for name, pair in frames.items()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_NAMES]) + (", …" if len(names) > _NUM_NAMES else "")
