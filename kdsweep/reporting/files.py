"""A sweep's results in files and as JSON."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from kdsweep.ledger.atomic import write_bytes
from kdsweep.plain_text import csv_cell
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.results import Results
from kdsweep.reporting.tables import plain
from kdsweep.reporting.typesetting import to_latex, to_markdown
from kdsweep.reporting.verdict import verdict


def write_tables(results: Results, folder: Path, top: int = 10) -> list[Path]:
    """Write every table as CSV and as Parquet, and those for papers as Markdown and as LaTeX.

    Each file is there whole or not at all, so that others may read while a report is made again.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        folder: Where to; made if it is not there. ``Experiment.report`` is the place for it.
        top: Rows of the tables for papers.

    Returns:
        The files, in the order of the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, frame in results.tables().items():
        uniform = _uniform(frame)
        table = pa.Table.from_pandas(uniform, preserve_index=False)
        text, packed = io.BytesIO(), io.BytesIO()
        harmless = pa.Table.from_pandas(for_csv(uniform), schema=table.schema, preserve_index=False)
        pyarrow.csv.write_csv(harmless, text)
        pyarrow.parquet.write_table(table, packed)
        for suffix, data in ((".csv", text), (".parquet", packed)):
            path = folder / f"{name}{suffix}"
            write_bytes(path, data.getvalue())
            paths.append(path)
    for paper in paper_tables(results, top):
        for suffix, written in ((".md", to_markdown(paper)), (".tex", to_latex(paper))):
            path = folder / f"{paper.name}{suffix}"
            write_bytes(path, written.encode())
            paths.append(path)
    return paths


def for_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with no cell that a spreadsheet would run."""
    text = [name for name in frame if frame[name].dtype in (object, "str")]
    return frame.assign(**{str(name): frame[name].map(csv_cell, "ignore") for name in text})


def to_json(results: Results) -> dict[str, Any]:
    """Return summary, answer, caveats and every table but the epochs as JSON: rows per table.

    Missing numbers are ``None``. The epochs are left to the files: they may be half a million rows.
    """
    tables = {name: _rows(frame) for name, frame in results.tables().items() if name != "epochs"}
    answer = verdict(results)
    said = {} if answer is None else {"answer": answer.to_json()}
    return {"summary": results.summary.to_json(), **said, "caveats": notes(results), **tables}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {str(name): [plain(value) for value in frame[name]] for name in frame}
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with columns of mixed kinds as text: files have one kind per column."""
    mixed = [name for name in frame if frame[name].dtype == object]
    text = {name: frame[name].map(lambda v: None if plain(v) is None else str(v)) for name in mixed}
    return frame.assign(**{str(name): column.astype("str") for name, column in text.items()})
