"""How a worker hears which students of its cohort have been stopped.

Tune can stop a whole cohort only. So the driver leaves word in Ray's own key-value store, which
every machine of the cluster reads alike, before it lets the worker go on to the next epoch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_put,
)

_NAMESPACE = b"kdsweep"


def publish(key: str, epoch: int, stopped: Collection[int]) -> None:
    """Say which trials end with an epoch, or have ended before.

    Args:
        key: Of the attempt.
        epoch: The epoch that was judged.
        stopped: Numbers of the trials.
    """
    text = json.dumps({"epoch": epoch, "stopped": sorted(stopped)})
    _internal_kv_put(key.encode(), text.encode(), overwrite=True, namespace=_NAMESPACE)


def read(key: str, epoch: int) -> Sequence[int]:
    """The trials that ended with an epoch or before.

    Args:
        key: Of the attempt.
        epoch: The epoch that the worker has reported.
    """
    text = _internal_kv_get(key.encode(), namespace=_NAMESPACE)
    assert text is not None, f"no verdict for {key}"
    verdict = json.loads(text)
    assert verdict["epoch"] == epoch, (verdict, epoch)
    stopped: list[int] = verdict["stopped"]
    return stopped


def forget(key: str) -> None:
    """Remove the word on an attempt that has ended."""
    _internal_kv_del(key.encode(), namespace=_NAMESPACE)
