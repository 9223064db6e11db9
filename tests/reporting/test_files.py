import json
import math

import pandas as pd
from experiments_on_disk import results_of

from kdsweep.reporting import to_json, write_tables

TABLES = [
    "trials", "epochs", "pairs", "front", "gains", "classes", "terms", "confirmation", "failures",
]  # fmt: skip
PAPERS = ["trials", "pairs", "gains", "classes"]


def test_tables_come_back_from_csv_and_parquet(mixed, tmp_path):
    results = results_of(mixed.events)
    paths = write_tables(results, tmp_path / "report")
    assert [p.name for p in paths] == [
        *(f"{name}{suffix}" for name in TABLES for suffix in (".csv", ".parquet")),
        *(f"{name}{suffix}" for name in PAPERS for suffix in (".md", ".tex")),
    ]
    assert "**55.0**" in (tmp_path / "report" / "trials.md").read_text()
    assert "\\textbf{55.0}" in (tmp_path / "report" / "trials.tex").read_text()
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == sorted(p.name for p in paths)
    trials = pd.read_parquet(tmp_path / "report" / "trials.parquet")
    assert trials["value"].tolist()[:3] == [0.5, 0.55, 0.25]
    assert trials["param:distill.pixel_kl.weight"].tolist()[1:3] == [2.0, 0.5]
    read = pd.read_csv(tmp_path / "report" / "gains.csv")
    assert read["trial"].tolist() == [1, 2, 3, 4]
    assert read["control_value"].tolist()[:2] == [0.5, 0.3]
    assert math.isnan(read["gain"][2])
    epochs = pd.read_csv(tmp_path / "report" / "epochs.csv")
    assert epochs["teacher/miou"].tolist()[3:6] == [0.40, 0.60, 0.61]


def test_parameters_of_mixed_kinds_are_written_as_text(story, tmp_path):
    story.sweep().session()
    for number, value in enumerate(["auto", 4, None, True]):
        story.trial(number, params={"train.precision": value}).run(number, [0.1])
    results = results_of(story.events)
    assert results.trials["param:train.precision"].tolist() == ["auto", 4, None, True]
    write_tables(results, tmp_path)
    column = pd.read_parquet(tmp_path / "trials.parquet")["param:train.precision"]
    assert column.fillna("").tolist() == ["auto", "4", "", "True"]


def test_a_spreadsheet_runs_no_cell_of_a_table(story, tmp_path):
    call = '=HYPERLINK("http://x","y")'
    story.sweep().session()
    for number, value in enumerate([call, "-1.5", "@x", "plain"]):
        story.trial(number, params={"train.precision": value}).run(number, [0.1])
    write_tables(results_of(story.events), tmp_path)
    name = "param:train.precision"
    assert pd.read_csv(tmp_path / "trials.csv")[name].tolist() == [
        f"'{call}", "-1.5", "'@x", "plain",
    ]  # fmt: skip
    assert pd.read_parquet(tmp_path / "trials.parquet")[name].tolist()[0] == call


def test_files_of_an_empty_sweep_keep_their_columns(tmp_path):
    write_tables(results_of([]), tmp_path)
    for name in TABLES:
        frame = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert len(frame) == 0
        own = {"trials": "number", "pairs": "best", "confirmation": "job"}
        assert own.get(name, "trial") in frame
        assert (tmp_path / f"{name}.csv").read_text().count("\n") == 1


def test_json_has_nulls_for_what_is_missing(mixed):
    text = json.dumps(to_json(results_of(mixed.events)), allow_nan=False)
    value = json.loads(text)
    assert value["trials"][3]["value"] is None
    assert value["trials"][3]["best_epoch"] is None
    assert value["trials"][1]["gain"] == 0.55 - 0.50
    assert value["trials"][1]["best_epoch"] == 2
    assert value["trials"][0]["teacher"] is None
    assert value["pairs"][0]["num_trials"] == 1
    assert value["classes"][5]["student"] is None
    assert value["summary"]["best"]["number"] == 1
    assert value["failures"][0]["traceback"].startswith("Traceback")


def test_json_of_an_empty_sweep():
    value = json.loads(json.dumps(to_json(results_of([])), allow_nan=False))
    assert value["trials"] == []
    assert value["summary"]["state"] == "empty"
