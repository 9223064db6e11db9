"""How long trials were trained, beside their values: after fewer epochs they are no equals."""

from __future__ import annotations

import pandas as pd

from kdsweep.reporting import formats


def with_epochs(shown: pd.DataFrame) -> pd.DataFrame:
    """Return trials with the epochs behind each value: ``trained``, missing if all are alike."""
    return shown.assign(trained=_unlike(shown["epochs"], shown["planned_epochs"]))


def pairs_with_epochs(shown: pd.DataFrame) -> pd.DataFrame:
    """Return pairs with the epochs behind best and median, missing where all are alike."""
    low, high, planned = shown["least_epochs"], shown["most_epochs"], shown["planned_epochs"]
    median = [
        None if pd.isna(a) else formats.trained(a, p) if a == b else f"{a} to {b} of {p}"
        for a, b, p in zip(low, high, planned, strict=True)
    ]
    is_short = bool((low < planned).any())
    nothing = pd.Series(None, shown.index, "object")
    return shown.assign(
        best_trained=_unlike(shown["best_epochs"], planned),
        median_trained=pd.Series(median, shown.index, "object") if is_short else nothing,
    )


def _unlike(epochs: pd.Series, planned: pd.Series) -> pd.Series:
    """Return how long each was trained, if some were not trained to the end."""
    known = epochs.notna()
    said = [
        formats.trained(have, of) if is_known and (epochs < planned).any() else None
        for have, of, is_known in zip(epochs, planned, known, strict=True)
    ]
    return pd.Series(said, epochs.index, "object")
