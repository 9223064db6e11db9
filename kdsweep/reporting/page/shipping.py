"""What the best student costs where it runs, in words."""

from __future__ import annotations

from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best
from kdsweep.reporting.tables import plain
from kdsweep.reporting.trial_files import measured_on


def cost_sentences(results: Results, best: Best, subject: str = "It") -> list[str]:
    """Return size and latency, a sentence each if known; the first begins with ``subject``."""
    found = []
    if best.params_m is not None:
        found.append(f"{subject} {_size(results, best)}")
    if best.latency_ms is not None:
        found.append(f"{'It' if found else subject} {_latency(results, best)}")
    return found


def latency_detail(results: Results, best: Best) -> str:
    """Return what stands beneath the latency: the image size it holds for."""
    size = results.summary.data.get("image_size")
    return "a frame" + (f" of {formats.frame_size(size)}" if size else "")


def _size(results: Results, best: Best) -> str:
    sentence = f"has {best.params_m:.1f} M parameters"
    size = None if best.teacher is None else _size_of_teacher(results, best.number)
    if size and best.params_m:
        share = best.params_m / size
        sentence += (
            ", as many as its teacher"
            if f"{share:.2f}" == "1.00"
            else f", {formats.percent(share)} % of its teacher's {size:.1f} M"
        )
    return f"{sentence}."


def _latency(results: Results, best: Best) -> str:
    p95 = best.latency_p95_ms
    place = measured_on(results, best.number)
    trials = results.trials.set_index("number")
    teacher = plain(trials.loc[best.number, "teacher_latency_ms"])
    aside = [
        *([f"its teacher {formats.amount(teacher)} ms"] if teacher else []),
        *([f"measured on {printable(place)}"] if place else []),
    ]
    sentence = (
        f"takes {formats.amount(best.latency_ms)} ms for {latency_detail(results, best)} at "
        "the median"
        + ("" if p95 is None else f", {formats.amount(p95)} ms at the 95th percentile")
        + (f" ({'; '.join(aside)})" if aside else "")
    )
    rest = [
        f"{formats.amount(cost)} {unit}"
        for cost, unit in (
            (best.macs_g, "billion multiply-accumulates"),
            (best.inference_mb, "MB of memory at most"),
        )
        if cost is not None
    ]
    return f"{sentence}{', ' if rest else ''}{' and '.join(rest)}."


def _size_of_teacher(results: Results, number: int) -> float | None:
    epochs, column = results.epochs, "teacher/params_m"
    if column not in epochs:
        return None
    known = epochs.loc[epochs["trial"] == number, column].dropna()
    return None if known.empty else float(known.iloc[-1])
