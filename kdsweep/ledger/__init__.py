"""An experiment on disk: its layout, its ledger, where it came from. No torch, no Ray."""

from kdsweep.ledger.events import Event
from kdsweep.ledger.file import (
    Ledger,
    is_locked,
    iter_ledger,
    lock_holder,
    read_ledger,
)
from kdsweep.ledger.layout import Experiment, TrialFolder
from kdsweep.ledger.slot_time import SlotTime

__all__ = [
    "Event",
    "Experiment",
    "Ledger",
    "SlotTime",
    "TrialFolder",
    "is_locked",
    "iter_ledger",
    "lock_holder",
    "read_ledger",
]
