"""How a worker hears which students of its cohort have been stopped.

Tune can stop a whole cohort only. So the driver leaves word in the cluster's key-value store before
it lets the worker go on to the next epoch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from kdsweep.sweep.ray import bridge


def publish(key: str, epoch: int, stopped: Collection[int]) -> None:
    """Say, under an attempt's key, which trials end with an epoch, or have ended before."""
    # Every node reads the store alike; a file would depend on how fresh a shared file system is.
    bridge.put_text(key, json.dumps({"epoch": epoch, "stopped": sorted(stopped)}))


def read(key: str, epoch: int) -> Sequence[int]:
    """Return the trials that ended with the epoch that a worker has reported, or before."""
    text = bridge.get_text(key)
    assert text is not None, f"no stop signal for {key}"
    signal = json.loads(text)
    assert signal["epoch"] == epoch, (signal, epoch)
    stopped: list[int] = signal["stopped"]
    return stopped


def forget(key: str) -> None:
    """Remove the word on an attempt that has ended."""
    bridge.delete_text(key)
