"""What a trial's log says of an epoch."""

from __future__ import annotations

from collections.abc import Iterable

from kdsweep.config.metrics import MIOU, TEACHER_MIOU
from kdsweep.training.report import UNLABELLED, EpochReport, judge_share, term_title

_WEIGHTED = "student/weighted/"


def epoch_line(report: EpochReport, num_epochs: int) -> str:
    """The epoch in one line: scores, loss, and what each term of it does."""
    metrics = report.metrics
    parts = [
        f"epoch {report.epoch}/{num_epochs}",
        f"{report.seconds:.1f} s",
        f"student mIoU {metrics[MIOU]:.4f}",
    ]
    if TEACHER_MIOU in metrics:
        parts.append(f"teacher mIoU {metrics[TEACHER_MIOU]:.4f}")
    if "student/agreement" in metrics:
        parts.append(f"agreement {metrics['student/agreement']:.3f}")
    parts.append(f"loss {metrics['student/loss']:.4g}")
    names = [key.removeprefix(_WEIGHTED) for key in metrics if key.startswith(_WEIGHTED)]
    if names:
        parts.append(f"supervised {metrics['student/supervised']:.4g}")
    for name in names:
        share = metrics.get(f"student/grad_share/{name}")
        gradient = "" if share is None else f" ({share:.1%} of the gradient)"
        raw, weighted = metrics[f"student/distill/{name}"], metrics[_WEIGHTED + name]
        parts.append(f"{term_title(name)} {raw:.4g} weighted {weighted:.4g}{gradient}")
    if "student/confident" in metrics:
        parts.append(f"confident {metrics['student/confident']:.1%}")
    parts.append(f"lr {metrics['student/lr']:.3g}")
    return "  ".join(parts)


class LopsidedTerms:
    """Says once of each distillation term that it hardly counts, or that nothing else does.

    Args:
        said: Terms that were named already.
    """

    def __init__(self, said: Iterable[str] = ()) -> None:
        self.said = set(said)

    def look_at(self, report: EpochReport) -> list[str]:
        """Warnings about terms that were not named before."""
        warnings = []
        prefix = "student/grad_share/"
        for metric, share in report.metrics.items():
            name = metric.removeprefix(prefix)
            if not metric.startswith(prefix) or name == "supervised" or name in self.said:
                continue
            verdict = judge_share(share, report.metrics.get(f"student/ramp/{name}", 1.0))
            if verdict is not None:
                self.said.add(name)
                change = "larger" if verdict == "negligible" else "smaller"
                is_own = name.startswith(UNLABELLED)
                key = "unlabelled_weight" if is_own else f"{name}.weight"
                title = term_title(name, " on unlabelled frames")
                warnings.append(
                    f"distillation term {title} is {verdict}: {share:.2%} of the gradient's norm "
                    f"in epoch {report.epoch}; try a {change} distill.{key}"
                )
        return warnings
