"""Which settings matter, and which go together?"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdsweep.config.metrics import metric_of
from kdsweep.config.objectives import COSTS
from kdsweep.reporting import formats
from kdsweep.reporting.figures.figure import (
    SEQUENTIAL,
    STUDENT,
    Figure,
    axis,
    colorbar,
    listed,
    safe,
    short,
)
from kdsweep.reporting.figures.settings import has_steps
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import PARAM

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST_TRIALS = 10
_FEW_TRIALS = 30
_MOST_TRIALS = 2000
_MOST_LINES = 400
_MOST_AXES = 10
_LOG_RATIO = 30.0
_LONGEST_TICK = 16


def importances(results: Results) -> pd.DataFrame:
    """Return how much each drawn parameter decides whether a trial is among the best.

    Optuna's PED-ANOVA, over the parameters that every search trial with a value has drawn: those of
    single branches of a conditional space cannot be compared with them.

    Returns:
        Columns ``parameter, importance`` (they sum to one), most important first; no rows for fewer
        than ten trials.

    Reference:
        Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
        Subspaces", IJCAI 2023.
    """
    nothing = pd.DataFrame({"parameter": pd.Series(dtype="str"), "importance": np.zeros(0)})
    ranked = results.searched()
    columns = [
        column
        for column in map(str, ranked)
        if column.startswith(PARAM)
        and ranked[column].notna().all()
        and ranked[column].astype("str").nunique() > 1
    ]
    if len(ranked) < LEAST_TRIALS or not columns or ranked["value"].nunique() < 2:
        return nothing
    if len(ranked) > _MOST_TRIALS:
        keep = np.linspace(0, len(ranked) - 1, _MOST_TRIALS).round().astype(int)
        ranked = ranked.iloc[keep]

    # Only this needs Optuna, which takes a while to load.
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    settings = {column: ranked[column].tolist() for column in columns}
    kinds = {column: _distribution(values) for column, values in settings.items()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(direction="maximize")
            study.add_trials(
                [
                    optuna.trial.create_trial(
                        params={column: settings[column][row] for column in columns},
                        distributions=kinds,
                        value=value,
                    )
                    for row, value in enumerate(ranked["value"].tolist())
                ]
            )
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        finally:
            optuna.logging.set_verbosity(before)
    if any("same set of trials" in str(warning.message) for warning in said):
        return nothing
    table = pd.DataFrame(
        {
            "parameter": [name.removeprefix(PARAM) for name in found],
            "importance": list(found.values()),
        }
    )
    table = table[np.isfinite(table["importance"])]
    return table.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)


def _distribution(values: list[object]) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or len(set(numbers)) <= 2:
        return CategoricalDistribution(tuple(dict.fromkeys(values)))  # type: ignore[arg-type]
    lowest, highest = min(numbers), max(numbers)
    log = lowest > 0 and highest / lowest >= _LOG_RATIO
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(lowest), int(highest), log=log)
    return FloatDistribution(float(lowest), float(highest), log=log)


def parallel_rows(results: Results) -> pd.DataFrame:
    """Return what parallel coordinates draw: ``trial, value`` and each drawn parameter.

    The best half of at most 400 trials, and an even choice of the others. Costs that the sweep
    searches by stand behind the parameters, by their metric's name.
    """
    ranked = results.searched()
    columns = [
        column
        for column in map(str, ranked)
        if column.startswith(PARAM) and ranked[column].dropna().astype("str").nunique() > 1
    ]
    if len(ranked) > _MOST_LINES:
        half = _MOST_LINES // 2
        rest = np.linspace(half, len(ranked) - 1, _MOST_LINES - half).round().astype(int)
        ranked = ranked.iloc[np.concatenate([np.arange(half), rest])]
    costs = {name.removeprefix("student/"): name for name in searched_costs(results)}
    rows = ranked[["number", "value", *columns, *costs]].reset_index(drop=True)
    names = {column: column.removeprefix(PARAM) for column in columns}
    return rows.rename(columns={"number": "trial", **names, **costs})


def searched_costs(results: Results) -> list[str]:
    """Return the costs that the sweep searches by, as its metrics name them."""
    return [metric for metric in results.summary.metrics if metric in COSTS]


def importance_figures(results: Results) -> list[Figure]:
    """Draw bars, most important on top."""
    table = importances(results)
    if table.empty:
        return []
    num_trials = len(results.searched())
    doubt = (
        f" With only {num_trials} trials this is a hint, no more."
        if num_trials < _FEW_TRIALS
        else ""
    )
    shown = table.head(20)
    places = list(range(len(shown)))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": listed(100 * shown["importance"]),
        "y": places,
        "marker": {"color": STUDENT},
        "hovertext": [safe(name) for name in shown["parameter"]],
        "hovertemplate": "%{hovertext}: %{x:.1f} %<extra></extra>",
    }
    return [
        Figure(
            name="importance",
            title="Which settings decide whether a trial is among the best?",
            caption="Importance by PED-ANOVA: how differently a setting is distributed among the "
            "best tenth of the trials and among all, in per cent of the sum. Settings that only "
            f"some trials draw are left out.{doubt}",
            tables={"importance": table},
            traces=[trace],
            layout={
                "xaxis": axis("importance (%)", rangemode="tozero"),
                "yaxis": axis(
                    "",
                    tickvals=places,
                    ticktext=[short(name) for name in shown["parameter"]],
                    autorange="reversed",
                    ticks="",
                ),
            },
            height=110 + 30 * len(shown),
        )
    ]


def parallel_figures(results: Results, metric: str) -> list[Figure]:
    """Draw parallel coordinates: one line a trial, one axis a setting."""
    rows = parallel_rows(results)
    costs = searched_costs(results)
    names = [str(name) for name in rows.columns[2:] if name not in costs]
    if len(rows) < 2 or not names:
        return []
    short_names = formats.shortest_names(names)
    shown = names[:_MOST_AXES]
    drawn = [_dimension(rows[name], short(short_names[name])) for name in shown]
    drawn += [_dimension(rows[cost], _with_unit(cost)) for cost in costs]
    drawn.append({"label": metric, "values": listed(rows["value"]), "tickformat": ".3f"})
    num_all = len(results.searched())
    caption = "One line a trial. Drag along an axis to see only the trials in a range."
    if len(rows) < num_all:
        caption += f" {len(rows)} of {num_all} trials: the best, and an even choice of the others."
    if len(shown) < len(names):
        caption += f" The first {len(shown)} of {len(names)} settings."
    trace = {
        "type": "parcoords",
        "dimensions": drawn,
        "line": {
            "color": listed(rows["value"]),
            "colorscale": SEQUENTIAL,
            "showscale": True,
            "colorbar": colorbar(metric),
        },
        "labelfont": {"color": "var(--ink)"},
        "tickfont": {"color": "var(--ink)"},
        "rangefont": {"color": "var(--muted)"},
        "unselected": {"line": {"color": "var(--grid)", "opacity": 0.3}},
    }
    return [
        Figure(
            name="parallel",
            title="Which settings go together?",
            caption=caption,
            tables={"parallel": rows},
            traces=[trace],
            layout={"margin": {"l": 110, "r": 30, "t": 60, "b": 30}},
            height=420,
            least_width=130 * len(drawn),
            wide=True,
        )
    ]


def _with_unit(cost: str) -> str:
    known = metric_of(cost)
    return f"{known.name} ({known.unit})"


def _dimension(column: pd.Series, label: str) -> dict[str, object]:
    settings = column.dropna()
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and settings.nunique() > 2:
        numbers = column.astype("float64")
        if numbers.min() > 0 and numbers.max() / numbers.min() >= _LOG_RATIO:
            low, high = np.log10(numbers.min()), np.log10(numbers.max())
            ticks = np.linspace(low, high, 5)
            # Parallel coordinates have no logarithmic axes; the texts say the numbers themselves.
            return {
                "label": label,
                "values": listed(np.log10(numbers.fillna(numbers.min()))),
                "tickvals": listed(ticks),
                "ticktext": [f"{10**tick:.2g}" for tick in ticks],
            }
        dimension: dict[str, object] = {
            "label": label,
            "values": listed(numbers.fillna(numbers.min())),
        }
        if has_steps(numbers):
            dimension["tickvals"] = listed(sorted(settings.astype("float64").unique()))
        return dimension
    texts = column.map(lambda value: "not drawn" if pd.isna(value) else formats.setting(value))
    order = sorted(texts.unique(), key=str)
    codes = {text: index for index, text in enumerate(order)}
    return {
        "label": label,
        "values": [codes[text] for text in texts],
        "tickvals": list(range(len(order))),
        "ticktext": [short(text, _LONGEST_TICK) for text in order],
        "range": [-0.1, max(len(order) - 1, 1) + 0.1],
    }
