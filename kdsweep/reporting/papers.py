"""The tables that people put into papers, as Markdown and as LaTeX (booktabs).

:func:`paper_tables` decides what stands in them, :func:`to_markdown` and :func:`to_latex` only
write it down. Names come from users and data sets: in both they stay the text that they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from kdsweep.config.metrics import NATIVE, metric_of
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.columns import Column, printable
from kdsweep.reporting.fields import Field, View
from kdsweep.reporting.pareto import front_title
from kdsweep.reporting.results import Results
from kdsweep.reporting.views import (
    CLASSES,
    CONFIRMATION,
    FRONT,
    GAINS,
    PAIRS,
    TRIALS,
    front_rows,
    without_gains,
)


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        name: Name of its files.
        caption: What it shows, in a sentence.
        columns: All with equally many cells.
        remarks: What has to be kept in mind about the numbers.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    remarks: Sequence[str] = field(default_factory=tuple)

    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def paper_tables(results: Results, top: int = 10) -> list[PaperTable]:
    """Best trials, pairs, gains, the best student's classes, the front, and what was confirmed.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        top: Rows of the tables of trials, gains and pairs.
    """
    remarks = notes(results, brief=True)
    if results.summary.notice:
        remarks = [str(results.summary.notice), *remarks]
    scores = _Scores(str(results.summary.metric))
    made = [
        _trials(results, scores, top),
        _pairs(results, scores, top),
        _gains(results, scores, top),
        _classes(results, scores),
    ]
    if not results.front.empty:
        made.append(_front(results, scores, top))
    if not results.confirmation.empty:
        made.append(_confirmation(results, scores))
    return [PaperTable(name, caption, columns, tuple(remarks)) for name, caption, columns in made]


def to_markdown(table: PaperTable) -> str:
    """A table in GitHub's Markdown, its remarks below it."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [f"**{_markdown(table.caption)}**", ""]
    lines.append(line(_markdown(column.header) for column in table.columns))
    lines.append(line("---" if column.text else "---:" for column in table.columns))
    for index, row in enumerate(table.rows()):
        cells = [_markdown(cell) for cell in row]
        bold = [index in column.bold for column in table.columns]
        lines.append(line(f"**{c}**" if b else c for c, b in zip(cells, bold, strict=True)))
    if table.remarks:
        lines += ["", *(f"- {_markdown(remark)}" for remark in table.remarks)]
    return "\n".join(lines) + "\n"


def to_latex(table: PaperTable) -> str:
    r"""A ``table`` environment that needs ``\usepackage{booktabs}``, its remarks as comments."""
    lines = ["% needs \\usepackage{booktabs}"]
    # A comment ends with its line; printable text has no line breaks.
    lines += [f"% {printable(remark)}" for remark in table.remarks]
    lines += ["\\begin{table}", "  \\centering", f"  \\caption{{{_latex(table.caption)}}}"]
    lines.append(f"  \\label{{tab:kdsweep-{table.name}}}")
    kinds = "".join("l" if column.text else "r" for column in table.columns)
    lines += [f"  \\begin{{tabular}}{{{kinds}}}", "    \\toprule"]
    lines.append(f"    {' & '.join(_latex(column.header) for column in table.columns)} \\\\")
    lines.append("    \\midrule")
    for index, row in enumerate(table.rows()):
        cells = [
            f"\\textbf{{{_latex(cell)}}}" if index in column.bold else _latex(cell)
            for cell, column in zip(row, table.columns, strict=True)
        ]
        lines.append(f"    {' & '.join(cells)} \\\\")
    lines += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


# -- what stands in them

_Made = tuple[str, str, list[Column]]


class _Scores:
    """How values of the sweep's metric are written: mIoU in per cent, its differences in points."""

    def __init__(self, metric: str) -> None:
        known = metric_of(metric)
        is_share = known.is_share
        self.name = known.name
        self.factor = 100.0 if is_share else 1.0
        self.unit = " (%)" if is_share else ""
        self.points = " (points)" if is_share else ""
        self.form = ".1f" if is_share else ".3g"

    def column(self, header: str, values: pd.Series, *, bold: bool = True) -> Column:
        """Values, the highest in bold."""
        return _numbers(header + self.unit, values * self.factor, self.form, bold=bold)

    def gain(self, header: str, values: pd.Series, *, bold: bool = True) -> Column:
        """Differences with their sign; the highest in bold, if it is a gain at all."""
        bold = bold and bool(values.max() > 0)
        return _numbers(header + self.points, values * self.factor, f"+{self.form}", bold=bold)


def _declared(
    view: View,
    shown: pd.DataFrame,
    scores: _Scores,
    more: Mapping[str, Sequence[Field]] | None = None,
    without: Collection[str] = (),
    bold: Mapping[str, pd.Series] | None = None,
) -> list[Column]:
    """A declared table as columns of a paper; ``bold`` says of some which rows are in bold."""
    columns = {
        field.key: _column(field, shown[field.key], scores)
        for field in view.of(view.paper, shown, more, without)
    }
    for key, chosen in (bold or {}).items():
        columns[key] = replace(columns[key], bold=_rows(chosen))
    return list(columns.values())


def _column(field: Field, values: pd.Series, scores: _Scores) -> Column:
    """A declared column: scores in per cent where they are shares, costs best where least."""
    unit = f" ({field.unit})" if field.unit else ""
    heading = (field.paper or f"{field.name}{unit}").replace("{metric}", scores.name)
    heading = heading.replace("{%}", scores.unit).replace("{points}", scores.points)
    own = scores if field.metric is None else _Scores(field.metric)
    if field.kind == "score":
        return own.column(heading, values, bold=field.bold)
    if field.kind == "gain":
        return own.gain(heading, values, bold=field.bold)
    if field.kind == "hours":
        return _numbers(heading, values, ".2f")
    cells, bold = field.cells(values), frozenset[int]()
    if field.bold and len(set(cells)) > 1:
        least = formats.number(values.min(), formats.form_of(values))
        bold = frozenset(row for row, cell in enumerate(cells) if cell == least)
    return Column(heading, cells, text=field.is_text, bold=bold)


def _trials(results: Results, scores: _Scores, top: int) -> _Made:
    ranked = results.ranked()
    shown = ranked.head(top)
    columns = _declared(TRIALS, shown, scores, without=without_gains(results))
    return "trials", f"Best students{_part(len(shown), len(ranked))}{_on(results)}", columns


def _pairs(results: Results, scores: _Scores, top: int) -> _Made:
    shown = results.pairs.head(top)
    columns = _declared(PAIRS, shown, scores, without=without_gains(results))
    of = _part(len(shown), len(results.pairs))
    return "pairs", f"Best pairs of teacher and student{of}{_on(results)}", columns


def _gains(results: Results, scores: _Scores, top: int) -> _Made:
    """The same trials as in the table of trials: the largest gains would be a choice of luck."""
    ranked = results.ranked()
    gains = results.gains.set_index("trial").loc[ranked["number"].head(top).tolist()]
    shown = gains[gains["gain"].notna()].reset_index()
    shown = shown.assign(matched=["yes" if matched else "no" for matched in shown["matched"]])
    bold = {"value": shown["gain"] > 0, "control_value": shown["gain"] < 0}
    columns = _declared(GAINS, shown, scores, bold=bold)
    of = _part(len(shown), len(ranked))
    caption = f"Gains of the best students over themselves without a teacher{of}{_on(results)}"
    return "gains", caption, columns


def _front(results: Results, scores: _Scores, top: int) -> _Made:
    """Several metrics: the best compromises; the best value of each metric in bold."""
    shown, more = front_rows(results, top)
    of = _part(len(shown), len(results.front))
    caption = f"{front_title(results.summary.metrics)}{of}{_on(results)}"
    return "front", caption, _declared(FRONT, shown, scores, more)


def _classes(results: Results, scores: _Scores) -> _Made:
    best = results.summary.best
    classes = results.classes
    shown = classes[classes["trial"] == best.number] if best is not None else classes.head(0)
    mean = shown[["student", "control", "teacher"]].mean()
    filled = pd.concat([shown, pd.DataFrame([{"class": "mean", **mean}])])
    filled = filled.assign(gain=filled["student"] - filled["control"])
    bold, without = {}, {"gain"}
    if shown["control"].notna().any():
        # Judged as they are written: what looks equal is equal.
        gain = 100 * shown["student"].round(3) - 100 * shown["control"].round(3)
        bold, without = {"student": gain > 0.05, "control": gain < -0.05}, set()
    columns = _declared(CLASSES, filled, scores, without=without, bold=bold)
    which = "" if best is None else f": trial {best.number}, {best.label}"
    return "classes", f"IoU of each class{which}{_on(results)}", columns


def _confirmation(results: Results, scores: _Scores) -> _Made:
    """Means over seeds; in bold the gains whose interval lies above zero."""
    shown = results.confirmation

    def spread(mean: str, sd: str) -> list[str]:
        pairs = zip(scores.factor * shown[mean], scores.factor * shown[sd], strict=True)
        return [
            formats.number(m, scores.form)
            if pd.isna(s)
            else f"{formats.number(m, scores.form)} ± {formats.number(s, scores.form)}"
            for m, s in pairs
        ]

    ends = zip(scores.factor * shown["low"], scores.factor * shown["high"], strict=True)
    filled = shown.assign(
        students=spread("mean", "sd"),
        controls=spread("control_mean", "control_sd"),
        interval=[
            formats.MISSING if pd.isna(low) else f"{low:{scores.form}} to {high:{scores.form}}"
            for low, high in ends
        ],
    )
    columns = _declared(CONFIRMATION, filled, scores, bold={"gain": shown["low"] > 0})
    data = _on(results).removesuffix(", validation split")
    caption = f"Jobs trained again on fresh seeds, mean ± standard deviation{data}"
    if (shown["seeds"] == 1).any():
        caption += "; nothing can be tested with one seed"
    return "confirmation", caption, columns


def _numbers(header: str, values: pd.Series, form: str, *, bold: bool = False) -> Column:
    """Numbers; in bold all that look like the highest, if there is something lower."""
    cells = [formats.number(value, form) for value in values]
    best: frozenset[int] = frozenset()
    if bold and len(set(cells) - {formats.MISSING}) > 1:
        highest = formats.number(values.max(), form)
        best = frozenset(index for index, cell in enumerate(cells) if cell == highest)
    return Column(header, cells, bold=best)


def _rows(chosen: pd.Series) -> frozenset[int]:
    return frozenset(np.flatnonzero(chosen.to_numpy()).tolist())


def _part(num_shown: int, num_all: int) -> str:
    return f" ({num_shown} of {num_all})" if num_all > num_shown else ""


def _on(results: Results) -> str:
    """The data that the scores belong to."""
    data = results.summary.data
    size = data.get("image_size")
    source = f", {data['source']}" if data.get("source") else ""
    pixels = f" at {size[0]}×{size[1]} pixels" if size else ""
    scored = ""
    if results.summary.protocol == NATIVE:
        scored = f", scored at {formats.scored_at(NATIVE)}"
    return f"{source}{pixels}{scored}, validation split"


# -- escaping

_MARKDOWN = re.compile(r"[\\`*\[\]~$|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LATEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "#": "\\#",
    "_": "\\_",
    "%": "\\%",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "[": "{[}",  # behind the end of a row, these two would be its arguments
    "*": "{*}",
    '"': "\\texttt{\\char34}",  # the roman fonts of pdfTeX's default have only a curly one
    "`": "\\textasciigrave{}",
    "→": "$\\rightarrow$",
    "×": "$\\times$",
    "±": "$\\pm$",
    "–": "--",
}
# What pdfTeX knows besides ASCII with nothing but its defaults. At other characters it would stop.
_LATEX_LETTERS = (
    "¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖ×ØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõö÷øùúûüýÿ"
    "ĀāĂăĆćĈĉĊċČčĎďĒēĔĕĖėĚěĜĝĞğĠġĢĤĥĨĩĪīĬĭİıĴĵĹĺĽľŁłŃńŇňŌōŎŏŐőŒœŔŕŘřŚśŜŝŞşŠšŤťŨũŪūŬŭŮůŰűŴŵŶŷŸŹźŻżŽž"
    "—‘’“”†‡•…‰™"
)
# The zero byte stands for an escape of our own; see _latex.
_LATEX_UNKNOWN = f"[^\\0 -~→–{_LATEX_LETTERS}]+"


def _markdown(text: str) -> str:
    """Text as Markdown shows it: no markup, no HTML, no link."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", plain)
    # Some renderers make links of bare addresses.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def _latex(text: str) -> str:
    """Text as LaTeX shows it."""
    plain = printable(text)
    # Two hyphens would become a dash.
    apart = re.sub("-(?=-)", "-\0", plain)
    parts = re.split(f"({_LATEX_UNKNOWN})", apart)
    escaped = "".join(
        _unknown(part)
        if index % 2
        else "".join(_LATEX.get(character, character) for character in part)
        for index, part in enumerate(parts)
    )
    # A minus is as wide as a plus; a hyphen is not.
    return re.sub(r"(?:(?<=^)|(?<= ))-(?=[0-9.])", "$-$", escaped).replace("\0", "{}")


def _unknown(text: str) -> str:
    r"""Characters for LuaTeX and XeTeX, which have ``\Umathcode``, and their numbers for pdfTeX."""
    numbers = " ".join(f"U+{ord(character):04X}" for character in text)
    return f"\\ifdefined\\Umathcode {text}\\else {numbers}\\fi{{}}"
