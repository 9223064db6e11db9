"""An experiment on disk: its layout, its ledger, where it came from. No torch, no Ray."""

from kdsweep.store.layout import Experiment, TrialFolder
from kdsweep.store.ledger import Event, Ledger, read_ledger

__all__ = ["Event", "Experiment", "Ledger", "TrialFolder", "read_ledger"]
