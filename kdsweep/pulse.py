"""How far a piece of work is: said by the thread that does it, read by who tells others of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import length_hint
from typing import Any, TypeVar

T = TypeVar("T")

TRAINING = "training"
VALIDATING = "validating"
SAVING = "saving"
# In this order, each epoch.
EPOCH = (TRAINING, VALIDATING, SAVING)


@dataclass(frozen=True)
class Beat:
    """A moment of some work.

    Attributes:
        count: Which one it is; it stands still where the work does.
        doing: What is being done, in a few words.
        done, total: How much of it is done, of how much; 0 of 0 where that is not counted.
        epoch: Which epoch, from 1; 0 outside of epochs.
        frames: Frames so far of what is done.
    """

    count: int = 0
    doing: str = ""
    done: int = 0
    total: int = 0
    epoch: int = 0
    frames: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def words(self) -> str:
        """What is done: ``training, epoch 3, step 12 of 40``."""
        parts = [self.doing]
        if self.epoch:
            parts.append(f"epoch {self.epoch}")
        if self.total:
            parts.append(f"{'step ' if self.epoch else ''}{self.done} of {self.total}")
        return ", ".join(parts)


class Pulse:
    """Where some work is at the moment.

    The thread that works calls it: one that beats on its own would go on in a deadlock. A call
    makes one small object; it waits for nobody, a GPU least of all.
    """

    def __init__(self) -> None:
        self.now = Beat()

    def __call__(
        self, doing: str, done: int = 0, total: int = 0, *, epoch: int = 0, frames: int = 0
    ) -> None:
        """Say where the work is; see :class:`Beat`."""
        self.now = Beat(self.now.count + 1, doing, done, total, epoch, frames)

    def along(self, doing: str, things: Sequence[T]) -> Iterator[T]:
        """Pass things on, and say after each that it is done."""
        self(doing, 0, len(things))
        for done, thing in enumerate(things, 1):
            yield thing
            self(doing, done, len(things))

    def through(self, doing: str, batches: Iterable[T], epoch: int = 0) -> Iterator[T]:
        """Pass batches on, and say after each that it is done.

        Args:
            doing: What is done with them.
            batches: Each begins with its images (B×…).
            epoch: Which epoch, from 1.
        """
        total, frames = length_hint(batches), 0
        self(doing, 0, total, epoch=epoch)
        for done, batch in enumerate(batches, 1):
            num = len(batch[0])  # type: ignore[index]
            yield batch
            frames += num
            self(doing, done, total, epoch=epoch, frames=frames)
