"""Imports of what stays as long as the process."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from types import ModuleType


def import_to_stay(name: str) -> ModuleType:
    """Import a module such that no collection of garbage looks through what it has brought along.

    Neither meanwhile nor later: of half a million objects that would be a second of CPU time in
    all, and a quarter of one after each trial. ``gc.unfreeze()`` takes that back.
    """
    if name not in sys.modules:
        was_on = gc.isenabled()
        gc.disable()
        try:
            importlib.import_module(name)
        finally:
            gc.freeze()
            if was_on:
                gc.enable()
        atexit.register(gc.unfreeze)  # extensions complain of what they cannot clean up
    return sys.modules[name]
