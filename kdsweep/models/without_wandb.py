"""Imports the libraries of networks without wandb, which timm would load where it is installed.

timm wants it for a summary that nothing here writes, and can do without. In each worker it takes a
quarter of a second before the first trial, and it takes over the process's output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let imports of a module fail, unless it was imported before."""
    hides = name not in sys.modules
    if hides:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hides:
            del sys.modules[name]


with _hidden("wandb"):
    import segmentation_models_pytorch as smp
    import timm

__all__ = ["smp", "timm"]
