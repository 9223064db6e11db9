"""Every table of a report, declared once: its columns, their headings, units, formats and order.

A column is added here: as a :class:`Field`, and by its key in the order of those writers that shall
show it. The writers (:mod:`~kdsweep.reporting.terminal`, :mod:`~kdsweep.reporting.papers`,
:mod:`~kdsweep.reporting.page.rows`) know kinds of columns and no single one; CSV, Parquet and JSON
hold whatever the tables of :class:`~kdsweep.reporting.results.Results` hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from kdsweep.reporting import formats
from kdsweep.reporting.front import further_costs
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM
from kdsweep.spec.metrics import TEACHER_MIOU, metric_of

# name: a text; cell: a text ranged like a number; count: whole; amount: three digits or so, alike
# in all rows; score and gain: of a metric; share: of 1, in per cent; loss, p: floats; hours: in the
# unit that suits them; setting: a drawn value of any kind.
Kind = Literal[
    "name", "cell", "count", "amount", "size", "score", "gain", "share", "loss", "p", "hours",
    "setting",
]  # fmt: skip
# No gain is +0.000, never -0.000.
_FORMS = {"count": "d", "size": ".1f", "score": ".3f", "gain": "+z.3f", "loss": ".3g", "p": ".3f"}


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        key: Column of the table that it shows.
        name, unit: Its heading; ``{metric}`` stands for the sweep's metric.
        kind: How its values are written.
        keep: How long it stays when the terminal is narrow: the lowest go first, 9 never goes.
        least: Narrowest width that a name may be shortened to there.
        style: Of its cells there.
        bold: Whether papers have its best value in bold.
        known: Whether terminal and papers leave it out where no row knows it; the page always does.
        form: Format of numbers, where it is not that of their kind.
        metric: What a score or gain is measured in; of ``None`` the sweep's metric.
        terminal, page, paper: Headings where they differ; the page's with its unit.
    """

    key: str
    name: str
    unit: str = ""
    kind: Kind = "name"
    keep: int = 9
    least: int = 8
    style: str = ""
    bold: bool = False
    known: bool = False
    form: str = ""
    metric: str | None = None
    terminal: str | None = None
    page: tuple[str, str] | None = None
    paper: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds names, left-aligned."""
        return self.kind == "name"

    def in_unit(self, values: pd.Series) -> pd.Series:
        """The column's values in the unit of its heading."""
        return values * formats.time_unit(_longest(values))[1] if self.kind == "hours" else values

    def cells(self, values: pd.Series) -> list[str]:
        """The column's values as terminal and page show them."""
        if self.kind in ("name", "cell"):
            return formats.names(values)
        if self.kind == "share":
            return [formats.percent(value) for value in values]
        if self.kind == "setting":
            return [formats.setting(value) for value in values]
        if self.kind == "hours":
            _, _, form = formats.time_unit(_longest(values))
            return [formats.number(value, form) for value in self.in_unit(values)]
        form = self.form or _FORMS.get(self.kind) or formats.form_of(values)
        return [formats.number(value, form) for value in values]


@dataclass(frozen=True)
class View:
    """A table.

    Attributes:
        fields: All its columns.
        terminal, page, paper: Keys of those that each writer shows, in its order.
    """

    fields: Sequence[Field]
    terminal: str = ""
    page: str = ""
    paper: str = ""

    def of(
        self,
        order: str,
        frame: pd.DataFrame,
        more: Mapping[str, Sequence[Field]] | None = None,
        without: Collection[str] = (),
    ) -> list[Field]:
        """The fields that one writer shows of some rows.

        Args:
            order: One of the orders.
            frame: The rows.
            more: Fields that only the results know, by the word that stands for them in the order.
            without: Keys that are left out.
        """
        more, named = more or {}, {field.key: field for field in self.fields}
        found: list[Field] = []
        for key in order.split():
            found += more[key] if key in more else [named[key]]
        return [
            _in_unit(field, frame[field.key]) if field.kind == "hours" else field
            for field in found
            if field.key not in without and (not field.known or frame[field.key].notna().any())
        ]


def _in_unit(field: Field, values: pd.Series) -> Field:
    """The field with the unit of its times."""
    return replace(field, unit=formats.time_unit(_longest(values))[0])


def settings(shown: pd.DataFrame, left_out: Sequence[str], most: int | None = None) -> list[Field]:
    """The drawn settings that differ between rows.

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


def with_places(ranked: pd.DataFrame, top: int) -> pd.DataFrame:
    """The first trials with their places; those of equal values share one."""
    places = ranked["value"].rank(method="min", ascending=False).astype(int)
    ties = ranked["value"].duplicated(keep=False)
    shown = ranked.head(top)
    marks = [f"{p}{'=' if t else ' '}" for p, t in zip(places, ties, strict=True)][: len(shown)]
    return shown.assign(place=marks, rank=range(1, len(shown) + 1), span=spans(shown))


def spans(trials: pd.DataFrame) -> list[str]:
    """Best and last epoch of each trial."""
    pairs = zip(trials["best_epoch"], trials["epochs"], strict=True)
    return [f"{best}/{last}" for best, last in pairs]


def front_rows(results: Results, top: int) -> tuple[pd.DataFrame, dict[str, list[Field]]]:
    """The first rows of the front, with the columns that only the results know."""
    metrics, shown = results.summary.metrics, results.front.head(top)
    further = further_costs(results.trials, metrics, shown)
    shown = shown.assign(span=spans(shown), **further)
    searched = [replace(metric_field(m), style="bold", bold=True) for m in metrics]
    return shown, {
        "metrics": searched,
        "further": [replace(metric_field(m), keep=5) for m in further],
    }


def metric_field(metric: str) -> Field:
    """A metric in its unit."""
    known = metric_of(metric)
    heading = "\n".join([*known.name.split(", "), *([known.unit] if known.unit else [])])
    return Field(
        metric,
        known.name,
        known.unit,
        "amount" if known.unit else "score",
        metric=metric,
        terminal=heading,
    )


def without_gains(results: Results) -> set[str]:
    """The gains of trials and pairs, if there are none."""
    known = results.gains["gain"].notna().any()
    return set() if known else {"gain", "best_gain", "median_gain"}


def without_none(shown: pd.DataFrame, *names: str) -> set[str]:
    """Those of the counts that are zero in all rows."""
    return {name for name in names if not shown[name].any()}


def _longest(values: pd.Series) -> float:
    return float(values.max()) if len(values) else 0.0


def _pair(least: int = 14) -> Iterable[Field]:
    return (Field("teacher", "teacher", least=least), Field("student", "student", least=least))


_SIZE = Field(
    "params_m", "params", "M", "size", page=("size", "M parameters"), paper="parameters (M)"
)
_COSTS = (
    Field("macs_g", "MACs", "G", "amount", keep=4, known=True),
    Field("latency_ms", "latency", "ms", "amount", 7, known=True, page=("latency", "ms, median")),
    Field("latency_p95_ms", "95 %", "ms", "amount", 2, known=True, page=("latency", "ms, 95 %")),
    Field("inference_mb", "memory", "MB", "amount", 3, known=True, page=("memory", "MB, peak")),
)
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
        Field("gain", "gain", kind="gain", bold=True),
        replace(_SIZE, keep=7),
        *_COSTS,
        *_EPOCHS,
        Field("hours", "time", kind="hours", keep=5, paper="time (h)"),
        Field("state", "state", keep=4, least=11),
        Field(
            "teacher_miou",
            "teacher mIoU",
            kind="score",
            keep=3,
            known=True,
            metric=TEACHER_MIOU,
            terminal="teacher\nmIoU",
        ),
        Field("agreement", "agrees", "%", "share", keep=3, known=True),
        Field("seed", "seed", kind="count", keep=2),
    ),
    terminal="place number teacher student value gain params_m latency_ms macs_g inference_mb "
    "latency_p95_ms span hours state teacher_miou agreement seed settings",
    page="rank number value gain student teacher params_m macs_g latency_ms settings best_epoch "
    "epochs hours state teacher_miou agreement seed",
    paper="number teacher student value gain teacher_miou params_m macs_g latency_ms inference_mb "
    "best_epoch epochs hours",
)
PAIRS = View(
    (
        *_pair(),
        Field("num_trials", "trials", kind="count"),
        Field("num_complete", "complete", kind="count"),
        Field(
            "best", "best {metric}", kind="score", style="bold", bold=True,
            terminal="best\n{metric}",
        ),
        Field(
            "best_gain", "its gain", kind="gain", bold=True, terminal="its\ngain",
            paper="gain of the best",
        ),
        Field(
            "median", "median {metric}", kind="score", keep=8, bold=True,
            terminal="median\n{metric}",
        ),
        Field(
            "median_gain", "median gain", kind="gain", keep=7, bold=True, terminal="median\ngain"
        ),
        replace(_SIZE, keep=6),
        Field(
            "num_stopped", "stopped", kind="count", keep=4, terminal="stopped\nearly"
        ),
        Field(
            "num_too_costly", "too costly", kind="count", keep=5, terminal="too\ncostly"
        ),
        Field("num_failed", "failed", kind="count", keep=5),
        Field("best_trial", "best trial", kind="count", keep=3, terminal="best\ntrial"),
    ),
    terminal="teacher student num_trials best best_gain median median_gain params_m num_stopped "
    "num_too_costly num_failed best_trial",
    page="teacher student num_trials num_complete num_stopped num_too_costly num_failed best "
    "best_gain median median_gain params_m",
    paper="teacher student num_trials best median best_gain median_gain params_m",
)  # fmt: skip
FRONT = View(
    (
        Field("trial", "trial", kind="count"),
        Field("teacher", "teacher", keep=6, least=14),
        Field("student", "student", least=24),
        Field("gain", "gain", kind="gain", keep=7, known=True),
        *(replace(field, keep=4) for field in _EPOCHS),
        Field("state", "state", keep=3),
    ),
    terminal="trial teacher student metrics gain further span state",
    page="trial student teacher metrics gain further best_epoch epochs state",
    paper="trial teacher student metrics gain further best_epoch epochs",
)
TERMS = View(
    (
        Field("trial", "trial", kind="count"),
        Field("label", "pair", keep=6, least=20, terminal="teacher→student"),
        Field("term", "term", least=12),
        Field("epoch", "epoch", kind="count", keep=3),
        Field("raw", "loss", kind="loss", keep=5, page=("loss", "raw")),
        Field("weighted", "weighted", kind="loss", keep=7, page=("loss", "weighted")),
        Field(
            "share", "gradient", "%", "share", style="bold",
            page=("share of gradient", "% at best epoch"),
        ),
        Field(
            "median_share", "median", "%", "share", keep=8,
            page=("share of gradient", "%, median"),
        ),
        Field("labels_share", "labels", "%", "share", keep=8),
        Field("remark", "", least=10, style="yellow"),
        Field("verdict", "verdict"),
    ),
    terminal="trial label term epoch raw weighted share median_share labels_share remark",
    page="trial label term raw weighted share median_share verdict",
)  # fmt: skip
CLASSES = View(
    (
        Field("class", "class"),
        Field("student", "student", kind="score", style="bold", page=("student", "IoU")),
        Field("control", "control", kind="score", known=True, page=("control", "IoU")),
        Field("gain", "gain", kind="gain"),
        Field("teacher", "teacher", kind="score", known=True, page=("teacher", "IoU")),
    ),
    terminal="class student control gain teacher",
    page="class student control teacher gain",
)
CONFIRMATION = View(
    (
        Field("job", "job", least=10),
        Field("pair", "teacher→student", keep=3, least=20),
        *_pair(),
        Field("split", "split", least=10),
        Field("seeds", "seeds", kind="count"),
        Field("students", "student", kind="cell"),
        Field("controls", "control", kind="cell", keep=6),
        Field("gain", "gain", kind="gain", style="bold", page=("gain", "mean")),
        Field("interval", "95 %", kind="cell"),
        Field("bootstrap", "bootstrap", kind="cell", keep=5),
        Field("low", "95 % from", "Student's t", "gain"),
        Field("high", "to", "Student's t", "gain"),
        Field("boot_low", "95 % from", "bootstrap", "gain"),
        Field("boot_high", "to", "bootstrap", "gain"),
        Field("rank_p", "rank p", kind="p", keep=4, page=("p", "signed ranks")),
        Field("mean", "student {metric}", "mean", "score"),
        Field("sd", "student", "sd", "score"),
        Field("control_mean", "control {metric}", "mean", "score"),
        Field("control_sd", "control", "sd", "score"),
    ),
    terminal="job pair split seeds students controls gain interval bootstrap rank_p",
    page="job student teacher split seeds gain low high boot_low boot_high rank_p mean sd "
    "control_mean control_sd",
)
NETWORKS = View(
    (
        Field("role", "role"),
        Field("name", "network"),
        replace(_SIZE, form=".2f"),
        *_COSTS,
        Field("best", "best {metric}", kind="score"),
        Field("median", "median {metric}", kind="score"),
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
        Field("label", "pair"),
        Field("attempt", "attempt", kind="count"),
        Field("class", "failure", page=("cause", ""), least=5),
        Field("times", "times", kind="count"),
        Field("num_retried", "retried", kind="count", keep=8),
        Field("trials", "trials", least=6),
        Field("message", "message", least=20),
        Field("then", "then"),
    ),
    terminal="class times num_retried trials message",
    page="trial label attempt class message then",
)
