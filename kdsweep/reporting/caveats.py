"""What a reader has to keep in mind about the numbers of a sweep, in a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from kdsweep.config.metrics import SEEN, metric_of
from kdsweep.reporting import formats
from kdsweep.reporting.constraints import bound_sentences
from kdsweep.reporting.pareto import names_of
from kdsweep.reporting.results import Results

_OF_SEEN = (
    "mIoU counts the classes in labels or predictions, as kdsweep did when this experiment began: "
    "one pixel predicted as a class that no label has brings in an IoU of 0. Since 29 November "
    "2026 labels alone say which classes count, so newer experiments compare with it roughly."
)
_ONE_SIDED = 2.5  # of 100 intervals lie above zero where there is nothing


def notes(results: Results, *, brief: bool = False) -> list[str]:
    """The caveats that apply to these results.

    Args:
        results: The results.
        brief: Only those without which the numbers mislead.
    """
    summary = results.summary
    bounds = bound_sentences(summary.constraints, summary.num_too_costly, summary.rejected)
    if summary.best is None:
        return bounds
    old = [_OF_SEEN] if summary.miou_over == SEEN else []
    if not results.confirmation.empty:
        num_jobs = results.confirmation["job"].nunique()
        several = [
            "Each interval speaks of one job. Where no teacher helps, one of "
            f"{num_jobs} jobs still shows a gain on a split in up to "
            f"{_ONE_SIDED * num_jobs:g} of 100 confirmations."
        ]
        return [
            "The jobs were chosen by their score in another sweep, and trained here on seeds that "
            "it had not used, each beside its exact control: the same student without a teacher, "
            "same batches, same initial weights.",
            "gain: mean of the differences, seed by seed; 95 %: Student's t on them. With few "
            "seeds the bootstrap is too narrow; it stands beside for what it does not assume.",
            "validation: at each one's best epoch, chosen on these frames, which flatters both "
            "alike; test: those epochs' students on the test split, scored once.",
            *(several if num_jobs > 1 else []),
            *old,
        ]
    found = [
        "Each value is one training with one seed, at its best epoch on the validation split. "
        "Differences no larger than those between seeds show nothing."
    ]
    if summary.num_gains:
        found.append(
            "gain: student minus control, both at their best within the same number of epochs."
            + (
                ""
                if summary.gains_matched
                else " Each student's control is shared: it was trained once, at the middle of the "
                "search space's ranges, so a gain mixes the teacher's effect with that of other "
                "hyperparameters and does not show by itself that the teacher helped."
            )
        )
    elif summary.num_controls == 0:
        found.append("No controls: whether the teachers helped cannot be told from this sweep.")
    if results.terms["verdict"].notna().any() and not brief:
        found.append(
            "negligible: less than 1 % of the student's gradient comes from this term, so it "
            "changes next to nothing; dominant: more than 95 %, so the labels hardly count. "
            "Another weight would test the loss better."
        )
    if summary.states["stopped"] > summary.num_too_costly and not brief:
        found.append("Trials that were stopped early count with what they had reached by then.")
    if not results.front.empty:
        found += _of_front(summary.metrics)
    return [*found, *old, *bounds]


def _of_front(metrics: Sequence[str]) -> list[str]:
    """By what difference one student is better than another."""
    noisy = {m: metric_of(m).noise for m in metrics if metric_of(m).noise}
    if not noisy:
        return []
    percent = formats.percent(max(noisy.values()))
    return [
        f"Measured costs ({names_of(list(noisy))}) that differ by less than {percent} % count as "
        "equal where students are compared in several metrics."
    ]
