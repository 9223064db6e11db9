"""Every table that is shown, declared once: its columns, headings, units, formats and order.

A column is added here: as a
:class:`~kdsweep.reporting.fields.Field`, and by its key in the order of those writers that shall
show it. The writers (:mod:`~kdsweep.reporting.columns`, :mod:`~kdsweep.reporting.papers`,
:mod:`~kdsweep.reporting.page.rows`) know kinds of columns and no single one; CSV, Parquet and JSON
hold whatever the tables of :class:`~kdsweep.reporting.results.Results` hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from kdsweep.config.metrics import MIOU, TEACHER_MIOU
from kdsweep.reporting import formats
from kdsweep.reporting.fields import Field, View, metric_field
from kdsweep.reporting.lengths import with_epochs
from kdsweep.reporting.pareto import further_costs
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM
from kdsweep.training.report import term_title


def settings(shown: pd.DataFrame, left_out: Sequence[str], most: int | None = None) -> list[Field]:
    """Return the drawn settings that differ between rows.

    Args:
        shown: Rows of the trials.
        left_out: How the paths of those begin that have columns of their own.
        most: As many at most.
    """
    names = [
        column.removeprefix(PARAM)
        for column in map(str, shown)
        if column.startswith(PARAM)
        and not column.removeprefix(PARAM).startswith(tuple(left_out))
        and shown[column].astype("object").map(repr).nunique() > 1
    ][:most]
    short = formats.shortest_names(names)
    return [Field(PARAM + name, short[name], kind="setting", keep=1) for name in names]


def rows_of(view: View, rows: Iterable[Any]) -> pd.DataFrame:
    """Return records as the rows of a view; what a record lacks is missing."""
    keys = [field.key for field in view.fields]
    return pd.DataFrame(list(rows), columns=keys, dtype="object")


def with_places(ranked: pd.DataFrame, top: int) -> pd.DataFrame:
    """Return the first trials with their places; those of equal values share one."""
    places = ranked["value"].rank(method="min", ascending=False).astype(int)
    ties = ranked["value"].duplicated(keep=False)
    shown = ranked.head(top)
    marks = [f"{p}{'=' if t else ' '}" for p, t in zip(places, ties, strict=True)][: len(shown)]
    rank = range(1, len(shown) + 1)
    return with_epochs(shown.assign(place=marks, rank=rank, span=spans(shown)))


def spans(trials: pd.DataFrame) -> list[str]:
    """Return best and last epoch of each trial."""
    pairs = zip(trials["best_epoch"], trials["epochs"], strict=True)
    return [f"{best}/{last}" for best, last in pairs]


def front_rows(results: Results, top: int) -> tuple[pd.DataFrame, dict[str, list[Field]]]:
    """Return the first rows of the front, with the columns that only the results know."""
    metrics, shown = results.summary.metrics, results.front.head(top)
    further = further_costs(results.trials, metrics, shown)
    shown = with_epochs(shown.assign(span=spans(shown), **further))
    searched = [replace(metric_field(m), style="bold", bold=True) for m in metrics]
    return shown, {
        "metrics": searched,
        "further": [replace(metric_field(m), keep=5) for m in further],
    }


def without_gains(results: Results) -> set[str]:
    """Return the columns of gains, where there are none."""
    known = results.gains["gain"].notna().any()
    return set() if known else {"gain", "best_gain", "median_gain"}


def with_titles(terms: pd.DataFrame) -> pd.DataFrame:
    """Return terms with the names that people read."""
    return terms.assign(term=[term_title(str(name)) for name in terms["term"]])


def without_none(shown: pd.DataFrame, *names: str) -> set[str]:
    """Return those of some counts that are zero in all rows."""
    return {name for name in names if not shown[name].any()}


def _pair(least: int = 14) -> Iterable[Field]:
    teacher = Field("teacher", "teacher", least=least, missing=formats.NO_TEACHER)
    return (teacher, Field("student", "student", least=least))


def _iou(network: str) -> Field:
    return Field(network, f"{network}\nIoU", kind="score", known=True, metric=MIOU)


def _cost(key: str, keep: int, **options: Any) -> Field:
    return replace(metric_field(f"student/{key}"), key=key, keep=keep, **options)


_SIZE = _cost("params_m", 9, kind="size", narrow="params")
_LATENCY = _cost("latency_ms", 7, known=True)
_COSTS = (
    _cost("macs_g", 4, known=True),
    _LATENCY,
    _cost("latency_p95_ms", 2, known=True),
    _cost("inference_mb", 3, known=True),
)
# Values after fewer epochs are no equals of the others, so this never goes.
_TRAINED = Field("trained", "after", "epochs", "cell", known=True)
_SELF_GAIN = Field("self_gain", "gain over\nself-taught", kind="gain", known=True)
_HEADROOM = Field("headroom", "headroom", kind="gain", keep=3, known=True)
_EPOCHS = (
    Field("span", "best/last", "epoch", "cell", keep=6),
    Field("best_epoch", "best epoch", kind="count"),
    Field("epochs", "epochs", kind="count"),
)

TRIALS = View(
    (
        Field("place", "# ", kind="cell"),
        Field("rank", "rank", kind="count"),
        Field("number", "trial", kind="count", keep=8),
        *_pair(),
        Field("value", "{metric}", kind="score", style="bold", bold=True),
        _TRAINED,
        Field("gain", "gain", kind="gain", bold=True),
        replace(_SELF_GAIN, keep=8),
        Field("lead", "teacher's\nlead", kind="gain", keep=3, known=True),
        _HEADROOM,
        replace(_SIZE, keep=7),
        *_COSTS,
        *_EPOCHS,
        Field("hours", "time", kind="hours", keep=5),
        Field("state", "state", keep=4, least=11),
        Field(
            "teacher_miou",
            "teacher\nmIoU",
            kind="score",
            keep=3,
            known=True,
            metric=TEACHER_MIOU,
        ),
        Field("agreement", "agrees", "%", "share", keep=3, known=True),
        Field("confident", "confident", "%", "share", keep=2, known=True),
        Field("seed", "seed", kind="count", keep=2),
        Field("machine", "machine", keep=2, least=8, known=True),
    ),
    terminal="place number teacher student value trained gain self_gain params_m latency_ms macs_g "
    "inference_mb latency_p95_ms span hours state teacher_miou lead headroom agreement confident "
    "seed machine settings",
    page="rank number value trained gain self_gain student teacher params_m macs_g latency_ms "
    "settings best_epoch epochs hours state teacher_miou lead headroom agreement confident seed "
    "machine",
    paper="number teacher student value gain self_gain teacher_miou params_m macs_g latency_ms "
    "inference_mb best_epoch epochs hours",
)
PAIRS = View(
    (
        *_pair(),
        Field("num_trials", "trials", kind="count"),
        Field("num_complete", "complete", kind="count"),
        Field("best", "best\n{metric}", kind="score", style="bold", bold=True),
        replace(_TRAINED, key="best_trained"),
        Field("best_gain", "gain of the best", kind="gain", bold=True, narrow="its\ngain"),
        Field("median", "median\n{metric}", kind="score", keep=8, bold=True),
        replace(_TRAINED, key="median_trained", keep=8),
        Field("median_gain", "median\ngain", kind="gain", keep=7, bold=True),
        replace(_SIZE, keep=6),
        Field("num_stopped", "stopped\nearly", kind="count", keep=4),
        Field("num_too_costly", "too\ncostly", kind="count", keep=5),
        Field("num_failed", "failed", kind="count", keep=5),
        Field("best_trial", "best\ntrial", kind="count", keep=3),
    ),
    terminal="teacher student num_trials best best_trained best_gain median median_trained "
    "median_gain params_m num_stopped "
    "num_too_costly num_failed best_trial",
    page="teacher student num_trials num_complete num_stopped num_too_costly num_failed best "
    "best_trained best_gain median median_trained median_gain params_m",
    paper="teacher student num_trials best best_trained median median_trained best_gain "
    "median_gain params_m",
)
FRONT = View(
    (
        Field("trial", "trial", kind="count"),
        Field("teacher", "teacher", keep=6, least=14, missing=formats.NO_TEACHER),
        Field("student", "student", least=24),
        _TRAINED,
        Field("gain", "gain", kind="gain", keep=7, known=True),
        *(replace(field, keep=4) for field in _EPOCHS),
        Field("state", "state", keep=3),
    ),
    terminal="trial teacher student metrics trained gain further span state",
    page="trial student teacher metrics trained gain further best_epoch epochs state",
    paper="trial teacher student metrics gain further best_epoch epochs",
)
TERMS = View(
    (
        Field("trial", "trial", kind="count"),
        Field("label", "teacher→student", keep=6, least=20),
        Field("term", "term", least=12),
        Field("epoch", "epoch", kind="count", keep=3),
        Field("raw", "loss", kind="loss", keep=5),
        Field("weighted", "weighted\nloss", kind="loss", keep=7),
        Field("share", "gradient\nshare", "%", "share", style="bold"),
        Field("median_share", "median\nshare", "%", "share", keep=8),
        Field("labels_share", "labels", "%", "share", keep=8),
        Field("remark", "", least=10, style="yellow"),
        Field("verdict", "verdict"),
    ),
    terminal="trial label term epoch raw weighted share median_share labels_share remark",
    page="trial label term raw weighted share median_share verdict",
)
GAINS = View(
    (
        Field("trial", "trial", kind="count"),
        *_pair(),
        Field("epochs", "epochs", kind="count"),
        Field("value", "{metric}", kind="score"),
        Field("control_value", "control\n{metric}", kind="score"),
        Field("gain", "gain", kind="gain"),
        Field("self_value", "self-taught\n{metric}", kind="score", known=True),
        _SELF_GAIN,
        _HEADROOM,
        Field("matched", "matched"),
    ),
    paper="trial teacher student epochs value control_value gain self_value self_gain headroom "
    "matched",
)
CLASSES = View(
    (
        Field("class", "class"),
        replace(_iou("student"), known=False, style="bold"),
        _iou("control"),
        Field("gain", "gain", kind="gain", metric=MIOU),
        _iou("teacher"),
    ),
    terminal="class student control gain teacher",
    page="class student control teacher gain",
    paper="class student control teacher gain",
)
CONFIRMATION = View(
    (
        Field("job", "job", least=10),
        Field("pair", "teacher→student", keep=3, least=20),
        *_pair(),
        Field("split", "split", least=10),
        Field("against", "against", least=10, known=True),
        Field("seeds", "seeds", kind="count"),
        Field("students", "student\n{metric}", "{%}", "cell"),
        Field("controls", "control\n{metric}", "{%}", "cell", keep=6),
        Field("gain", "gain", kind="gain", style="bold"),
        Field("interval", "95 %\ninterval", "{points}", "cell"),
        Field("always", "always valid\n95 %", kind="cell", keep=5, known=True),
        Field("verdict", "settled", keep=4, least=11, known=True),
        Field("seeds_saved", "seeds saved", "of 10", "count"),
        Field("bootstrap", "bootstrap", kind="cell", keep=5),
        Field("low", "95 % from", "Student's t", "gain"),
        Field("high", "to", "Student's t", "gain"),
        Field("always_low", "95 % from", "always valid", "gain"),
        Field("always_high", "to", "always valid", "gain"),
        Field("boot_low", "95 % from", "bootstrap", "gain"),
        Field("boot_high", "to", "bootstrap", "gain"),
        Field("rank_p", "rank p", kind="p", keep=4),
        Field("last_gain", "gain", "last epoch", "gain", known=True, keep=3),
        Field("mean", "student\n{metric}", "mean", "score"),
        Field("sd", "student\n{metric}", "sd", "score"),
        Field("control_mean", "control\n{metric}", "mean", "score"),
        Field("control_sd", "control\n{metric}", "sd", "score"),
    ),
    terminal="job pair split against seeds students controls gain interval always verdict "
    "bootstrap rank_p last_gain",
    page="job student teacher split against seeds gain low high always_low always_high verdict "
    "seeds_saved boot_low boot_high rank_p last_gain mean sd control_mean control_sd",
    paper="teacher student job split against seeds students controls gain interval",
)


def confirmation_view(confirmation: pd.DataFrame) -> View:
    """Return the view whose narrow tables keep the interval that the seeds were drawn for."""
    if confirmation["seeds_saved"].isna().all():
        return CONFIRMATION
    keep = {"always": 9, "interval": 7, "verdict": 8}
    fields = [replace(f, keep=keep.get(f.key, f.keep)) for f in CONFIRMATION.fields]
    return replace(CONFIRMATION, fields=fields)


NETWORKS = View(
    (
        Field("role", "role"),
        Field("name", "network"),
        replace(_SIZE, form=".2f"),
        *_COSTS,
        Field("best", "best\n{metric}", kind="score"),
        Field("median", "median\n{metric}", kind="score"),
        Field("num_trials", "trials", kind="count"),
        Field("best_trial", "best trial", kind="count"),
        Field("fronts", "on the front of"),
    ),
    page="role name params_m macs_g latency_ms latency_p95_ms inference_mb best median num_trials "
    "best_trial fronts",
)
FAILURES = View(
    (
        Field("trial", "trial", kind="count"),
        Field("label", "teacher→student"),
        Field("machine", "machine", known=True),
        Field("attempt", "attempt", kind="count"),
        Field("class", "cause", least=5),
        Field("times", "times", kind="count"),
        Field("num_retried", "retried", kind="count", keep=8),
        Field("trials", "trials", least=6),
        Field("message", "message", least=20),
        Field("then", "then"),
    ),
    terminal="class times num_retried trials message",
    page="trial label machine attempt class message then",
)
_ENDED = Field("ended", "trials", "ended", "cell")
COMPARED = View(
    (
        Field("experiment", "experiment", least=24),
        Field("state", "state", keep=3, least=7),
        Field("teacher", "teacher", keep=7, least=10),
        Field("student", "best student", least=12),
        Field("value", "{metric}", kind="score", style="bold"),
        _TRAINED,
        Field("gain", "gain", kind="gain", keep=8),
        replace(_SIZE, keep=6),
        replace(_LATENCY, keep=5),
        replace(_ENDED, keep=6),
        Field("num_seeds", "seeds", kind="count", keep=4),
        Field("epochs", "epochs", kind="count", keep=5),
        Field("hours", "time", kind="hours", keep=5),
        Field("trial", "trial", kind="count", keep=2),
        Field("gpu_hours", "GPU-\nhours", kind="amount", keep=4, form=".2f"),
    ),
    terminal="experiment state teacher student value trained gain params_m latency_ms ended "
    "num_seeds epochs hours trial gpu_hours",
)
EXPERIMENTS = View(
    (
        Field("experiment", "experiment", least=48),
        Field("started", "started", kind="cell", keep=1),
        Field("state", "state", least=7),
        replace(_ENDED, keep=7),
        Field("failed", "failed", kind="count", keep=2),
        Field("best", "best", "{metric}", "score", style="bold"),
        Field("metric", "metric", keep=6),
        Field("label", "best student", keep=5, least=20),
        Field("time", "time", kind="cell", keep=3),
    ),
    terminal="experiment started state ended failed best metric label time",
)
RUNNING = View(
    (
        Field("number", "trial", kind="count"),
        Field("label", "teacher→student", least=20),
        Field("epoch", "epoch", kind="cell"),
        Field("value", "last", "{metric}", "score"),
        Field("best", "best", kind="score", keep=6, style="bold"),
        Field("attempt", "attempt", kind="count", keep=2),
        Field("silence", "last word\nbefore", kind="cell", keep=4),
    ),
    terminal="number label epoch value best attempt silence",
)
