"""The page put together: what each part shows, in the order in which a reader asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kdsweep.ledger.atomic import new_directory, write_bytes, write_text
from kdsweep.plain_text import printable
from kdsweep.reporting import brief, formats
from kdsweep.reporting.figures import Figure, draw_figures, effort_totals, networks
from kdsweep.reporting.files import for_csv
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.page import answer, rows, sources
from kdsweep.reporting.page.confirmed import Related, related
from kdsweep.reporting.page.pictures import Gallery, gallery
from kdsweep.reporting.picture import draw_summary
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Summary

PAGE = "index.html"
FIGURES = "figures"
SUMMARY, PICTURE = "summary.md", "summary.png"


@dataclass(frozen=True)
class Part:
    """One part of the page.

    Attributes:
        name: Its anchor.
        question: What it answers.
        lines: Sentences before the figures.
        tables: Tables, those without rows left out.
        empty: What is said when there is nothing to show.
        headline: The answer in one line; all but the first figure and the first warning is then
            folded.
        cards, related, warnings, gallery, facts, commands, documents: What single parts have.
    """

    name: str
    title: str
    question: str
    lines: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[rows.Table] = ()
    empty: str = ""
    headline: str | None = None
    cards: Sequence[answer.Card] = ()
    related: Sequence[Related] = ()
    warnings: Sequence[str] = ()
    gallery: Gallery = field(default_factory=Gallery)
    facts: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()
    documents: Sequence[sources.Document] = ()


def write_page(results: Results, folder: Path) -> Path:
    """Write the page, and beside it the numbers of its figures as CSV, and a summary to share.

    Each is there whole or not at all, so that a browser may reload while a report is made again.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        folder: Where to; made if it is not there. ``Experiment.report`` is the place for it.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_figures(results, printable(results.summary.metric_name))
    with new_directory(folder / FIGURES) as temporary:
        for figure in (figure for part in figures.values() for figure in part):
            for name, frame in figure.tables.items():
                for_csv(frame).to_csv(temporary / f"{name}.csv", index=False)
    _write_summary(results, folder)
    write_text(folder / PAGE, _render(results, figures, folder))
    return folder / PAGE


def _write_summary(results: Results, folder: Path) -> None:
    """Write the answer as a page of Markdown and as one picture, where there is one."""
    metric = printable(results.summary.metric_name)
    said = brief.headline(results, metric)
    write_text(folder / SUMMARY, brief.as_markdown(results, metric, PICTURE))
    (folder / PICTURE).unlink(missing_ok=True)
    if said is not None:
        doubt = next(iter(brief.doubts(results)), "")
        name = str(results.summary.name or "sweep")
        picture = draw_summary(networks(results), name, said, doubt, metric)
        write_bytes(folder / PICTURE, picture)


def render_page(results: Results) -> str:
    """Return the page as text, with nothing written."""
    return _render(results, draw_figures(results, printable(results.summary.metric_name)), None)


def _render(results: Results, figures: dict[str, list[Figure]], folder: Path | None) -> str:
    from kdsweep.reporting.glossary import TERMS  # so that it can be run as a script

    summary = results.summary
    parts = _parts(results, figures, folder)
    drawn = {figure.name: figure.to_plotly() for part in parts for figure in part.figures}
    assets = files("kdsweep.reporting.page").joinpath("assets")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: assets.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        name=printable(str(summary.name or "sweep")),
        state=summary.state,
        head=_head(summary),
        parts=parts,
        terms=TERMS,
        figure_json=_script_json(drawn),
        css=Markup(assets.joinpath("page.css").read_text("utf-8")),
        js=Markup(assets.joinpath("page.js").read_text("utf-8")),
        plotly=Markup(_plotly() if drawn else ""),
    )


def _parts(results: Results, figures: dict[str, list[Figure]], folder: Path | None) -> list[Part]:
    metric = printable(results.summary.metric_name)
    # Accuracy over cost is the answer's picture, but for a confirmation, which has its own.
    shown, others = figures["answer"], figures["cost"]
    if not shown:
        shown, others = others[:1], others[1:]
    losses = "No weights, temperatures or other settings were drawn, or no trial has a value yet."
    return [
        Part(
            "answer",
            "Answer",
            "Which network to ship, did a teacher put it ahead, and what would settle that?",
            answer.sentences(results, metric),
            shown,
            headline=brief.headline(results, metric),
            tables=[
                *_filled(rows.confirmation_rows(results, metric)),
                *_filled(rows.trial_rows(results, metric)),
            ],
            cards=answer.cards(results, metric),
            related=related(results, PAGE, folder),
            warnings=brief.doubts(results),
        ),
        Part(
            "pairs",
            "Pairs",
            "Which teacher and student suit each other?",
            figures=figures["pairs"],
            tables=_filled(rows.pair_rows(results, metric)),
            empty="No pair has a value yet.",
        ),
        Part(
            "losses",
            "Losses",
            "Which settings matter, and where are they best?",
            figures=figures["losses"],
            tables=_filled(rows.term_rows(results)),
            empty=losses,
        ),
        Part(
            "cost-of-inference",
            "Accuracy against cost",
            "Which student gives the most for its size and its time?",
            answer.compromises(results),
            figures=others,
            tables=[
                *_filled(rows.front_rows(results)),
                *_filled(rows.network_rows(results, metric)),
            ],
            empty="No student has a value yet.",
        ),
        Part(
            "training",
            "Training",
            "How did the networks learn, and what was stopped?",
            figures=figures["training"],
            empty="No trial has finished an epoch yet.",
        ),
        Part(
            "classes",
            "Classes",
            "What does the best student recognise?",
            figures=figures["classes"],
            tables=_filled(rows.class_rows(results)),
            empty="There are no scores of single classes yet.",
        ),
        Part(
            "pictures",
            "Pictures",
            "What do the best students see?",
            gallery=gallery(results),
            empty="The best trials have left no sample pictures yet.",
        ),
        Part(
            "cost",
            "Cost",
            "What did the sweep cost, and what went wrong?",
            _cost_lines(results),
            figures=figures["effort"],
            tables=_filled(rows.failure_rows(results, folder)),
            empty="Nothing has run yet.",
        ),
        Part(
            "provenance",
            "Provenance",
            "Where does all this come from, and how is it made again?",
            facts=sources.facts(results),
            commands=next_commands(results),
            documents=sources.documents(results),
            empty="The experiment's folder is not known.",
        ),
    ]


def _filled(table: rows.Table) -> list[rows.Table]:
    return [table] if table.rows else []


def _head(summary: Summary) -> list[str]:
    shorts = summary.data.get("shorts", ())
    parts = [*shorts, *summary.counts(), formats.duration(summary.hours)]
    if summary.updated is not None:
        updated = datetime.fromtimestamp(summary.updated).astimezone()
        parts.append(f"as of {updated:%Y-%m-%d %H:%M}")
    return parts


def _cost_lines(results: Results) -> list[str]:
    totals = effort_totals(results)
    if not totals.trial_hours:
        return []
    sessions = formats.counted(results.summary.num_sessions, "session")
    lines = [
        f"The sweep took {formats.duration(totals.wall_hours)} in {sessions}; its trials took "
        f"{formats.duration(totals.trial_hours)} together"
        + (f" and {totals.gpu_hours:.2f} GPU-hours." if totals.gpu_hours else ", on CPUs.")
    ]
    if totals.saved_hours:
        lines.append(
            f"{_stopping(results)} saved about {formats.duration(totals.saved_hours)}, "
            f"{formats.percent(totals.saved_share)} % of what all of them at full length would "
            "have taken."
        )
    if totals.busy_share is not None:
        lines.append(f"Slots were busy {formats.percent(totals.busy_share)} % of the time.")
    for hours, what in ((totals.control_hours, "Controls"), (totals.failed_hours, "Failed trials")):
        if hours:
            lines.append(f"{what} took {formats.duration(hours)} of it.")
    return lines


def _stopping(results: Results) -> str:
    """Say what saved time."""
    num_costly, num_stopped = (
        results.summary.num_too_costly,
        results.summary.states["stopped"],
    )
    if not num_costly:
        return "Stopping weak trials early"
    if num_costly == num_stopped:
        return "Ending trials that cost more than allowed"
    return "Stopping weak trials early, and those that cost more than allowed,"


def _script_json(value: Any) -> Markup:
    """Return JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
