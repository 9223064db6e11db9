"""What a reader has to keep in mind about the numbers of a sweep, in a sentence each."""

from __future__ import annotations

from kdsweep.reporting.results import Results


def notes(results: Results, *, brief: bool = False) -> list[str]:
    """The caveats that apply to these results.

    Args:
        results: The results.
        brief: Only those without which the numbers mislead.
    """
    summary = results.summary
    if summary["best"] is None:
        return []
    found = [
        "Each value is one training with one seed, at its best epoch on the validation split. "
        "Differences no larger than those between seeds show nothing."
    ]
    if summary["num_gains"]:
        found.append(
            "gain: student minus control, both at their best within the same number of epochs."
            + (
                ""
                if summary["gains_matched"]
                else " Each student's control is shared: it was trained once, at the middle of the "
                "search space's ranges, so a gain mixes the teacher's effect with that of other "
                "hyperparameters and does not show by itself that the teacher helped."
            )
        )
    elif summary["num_controls"] == 0:
        found.append("No controls: whether the teachers helped cannot be told from this sweep.")
    if summary["states"]["stopped"] and not brief:
        found.append("Trials that were stopped early count with what they had reached by then.")
    return found
