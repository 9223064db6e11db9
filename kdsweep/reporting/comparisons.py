"""Trials beside what they are compared with: how often luck alone does it, who had a lead."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import has_teacher

# What tells networks apart in the tables.
_NETWORK = ["student", "params_m", "macs_g"]


@dataclass(frozen=True)
class Lead:
    """How far a teacher was ahead of the control of its student.

    Attributes:
        trial: The student's.
        teacher: The teacher's value at the student's best epoch.
        control: The control's within as many epochs.
    """

    trial: int
    teacher: float
    control: float

    @property
    def value(self) -> float:
        """The difference as it is written."""
        return round(self.teacher - self.control, 3)


def lead_of_best(results: Results) -> Lead | None:
    """Return the lead of the teacher of the best taught trial, if it is known."""
    taught = results.searched()
    taught = taught[has_teacher(taught)]
    if taught.empty or pd.isna(taught["lead"].iloc[0]):
        return None
    number = int(taught["number"].iloc[0])
    control = float(results.gains.set_index("trial")["control_value"][number])
    return Lead(number, control + float(taught["lead"].iloc[0]), control)


def headroom_of(results: Results, number: int) -> float | None:
    """Return what the network of a trial gained from the labels that the data leave out, if known.

    A student with a teacher is compared with its own controls, a control with those of its network.
    """
    gains = results.gains
    if "headroom" not in gains:
        return None
    own = gains.loc[gains["trial"] == number, "headroom"].dropna()
    if own.empty:
        own = compared_with(results, number, "headroom")["headroom"]
    return None if own.empty else round(float(own.iloc[0]), 3)


def control_beside(results: Results, number: int, epochs: int) -> tuple[int, float] | None:
    """Return the control without a teacher beside a self-taught one, and its value.

    Args:
        results: The results.
        number: The self-taught control.
        epochs: Within how many epochs; ``None`` is returned where it has fewer.
    """
    beside = results.gains.loc[results.gains["self_control"] == number, "control"].dropna()
    if beside.empty:
        return None
    control, rows = int(beside.iloc[0]), results.epochs
    rows = rows[(rows["trial"] == control) & (rows["epoch"] <= epochs) & rows["value"].notna()]
    if rows.empty or rows["epoch"].max() < epochs:
        return None
    value = rows["value"].iloc[-1] if results.summary.select else rows["value"].max()
    return control, float(value)


def has_own_control(results: Results, number: int) -> bool:
    """Return whether a trial and its control differ in nothing but teacher and distillation."""
    rows = results.gains[results.gains["trial"] == number]
    return bool(rows["matched"].all())


def compared_with(results: Results, number: int, column: str = "gain") -> pd.DataFrame:
    """Return the gains that are known of a trial's network, whatever its teacher."""
    gains = results.gains
    alike = gains["trial"].isin(same_network(results, number))
    return gains[alike & gains[column].notna()]


def same_network(results: Results, number: int) -> list[int]:
    """Return the trials that train the network of a trial, best first, itself among them."""
    ranked = results.ranked()
    own = ranked.loc[ranked["number"] == number, _NETWORK]
    return ranked.merge(own, on=_NETWORK)["number"].tolist()


def share_by_luck(num: int) -> float:
    """Return how often the best of some trials is ahead of a control that is no worse than they.

    Of ``num + 1`` trainings that differ in nothing but chance each is as often the best.
    """
    return num / (num + 1)


def lottery(num: int) -> str:
    """Say how often the best of some trials is ahead of its control by luck alone."""
    one = "a single trial" if num == 1 else f"the best of {num} trials"
    times = int(100 * share_by_luck(num))
    return (
        f"even if teachers changed nothing, {one} would be ahead of its control in {times} of "
        "100 sweeps, by luck alone"
    )
