"""Who runs a sweep now: its ledger's lock says so."""

from __future__ import annotations

import socket

from kdsweep.ledger.file import is_locked, lock_holder
from kdsweep.ledger.layout import Experiment
from kdsweep.ledger.state import Sweep


def is_driven(experiment: Experiment, sweep: Sweep) -> bool | None:
    """Return whether a driver runs an experiment; ``None`` where that cannot be told from here.

    Its lock says so. Some shared file systems keep locks to one machine; that nobody holds it then
    says nothing of a driver on another one.
    """
    if not sweep.sessions:
        return is_locked(experiment.ledger)
    if is_locked(experiment.ledger):
        return True
    return False if sweep.sessions[-1].event.host == socket.gethostname() else None


def successor(experiment: Experiment, sweep: Sweep) -> int | None:
    """Return the process that holds an experiment, if the last session was another one's."""
    if not sweep.sessions or not is_locked(experiment.ledger):
        return None
    last = sweep.sessions[-1].event
    holder = lock_holder(experiment.ledger)
    is_same = last.host == socket.gethostname() and last.pid == holder
    return None if is_same else holder
