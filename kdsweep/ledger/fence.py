"""Only the newest attempt at a trial writes into its folder.

A worker that is cut off from its cluster trains on, and may still see the folder. The attempt that
takes its place puts up its own name; whoever finds another one than its own there writes nothing
more, and ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdsweep.errors import KdsweepError
from kdsweep.ledger import atomic


class FencedError(KdsweepError):
    """A newer attempt has taken over the trial."""


def put_up(path: Path, name: str) -> None:
    """Let an attempt be the only one that may write.

    Args:
        path: The fence's file (:attr:`kdsweep.ledger.TrialFolder.fence`).
        name: Of the attempt; no other one has it.
    """
    atomic.write_text(path, name)


def check(path: Path, name: str) -> None:
    """Raise a FencedError unless an attempt may write still."""
    try:
        newest = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        newest = "none"
    if newest != name:
        raise FencedError(
            f"{path.parent}: attempt {newest} has taken over this trial; {name} writes nothing more"
        )


@contextmanager
def fenced(path: Path, name: str) -> Iterator[None]:
    """Put up the fence, and look at it before anything of this process is put in place."""
    put_up(path, name)
    with atomic.looked_at_before_each_rename(lambda: check(path, name)):
        yield
