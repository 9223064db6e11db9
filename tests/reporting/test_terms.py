"""What each distillation term does, from the ledger to the table."""

import math

import pandas as pd
import pytest
from experiments_on_disk import results_of

from kdsweep.reporting import to_json, write_tables


def terms_of(story, number=1):
    terms = results_of(story.events).terms
    return terms[terms["trial"] == number].set_index("term")


def test_values_are_those_of_the_best_epoch(distilled):
    terms = terms_of(distilled)
    assert list(terms.index) == ["pixel_kl", "attention"]
    assert terms["epoch"].tolist() == [2, 2]
    assert terms["raw"].tolist() == [0.8, 0.01]
    assert terms["weighted"].tolist() == [1.6, 0.02]
    assert terms["share"].tolist() == [0.30, 0.004]
    assert terms["labels_share"].tolist() == pytest.approx([0.696, 0.696])


def test_the_median_counts_epochs_with_the_full_weight(distilled):
    terms = terms_of(distilled)
    assert terms["full_epochs"].tolist() == [2, 3]
    assert terms["median_share"].tolist() == pytest.approx([0.25, 0.004])


def test_lopsided_terms_are_judged_once_their_ramp_is_over(distilled):
    assert terms_of(distilled)["verdict"].fillna("").tolist() == ["", "negligible"]
    beginning = terms_of(distilled, 2).loc["hint"]
    assert (beginning["full_epochs"], beginning["ramp"]) == (0, 0.25)
    assert math.isnan(beginning["median_share"])
    assert pd.isna(beginning["verdict"])
    distilled.epoch(2, 2, 0.30, terms={"hint": (3.0, 0.99, 1.0)})
    assert terms_of(distilled, 2)["verdict"].tolist() == ["dominant"]


def test_controls_have_no_terms(distilled):
    assert 0 not in set(results_of(distilled.events).terms["trial"])


def test_ledgers_of_before_have_fewer_columns(mixed):
    def add(metric, value):
        for event in mixed.events:
            if event["event"] == "epoch" and event["trial"] == 1:
                event["metrics"][metric] = value

    assert results_of(mixed.events).terms.empty
    add("student/distill/pixel_kl", 0.5)
    add("student/weighted/pixel_kl", 1.0)
    terms = terms_of(mixed)
    assert terms.loc["pixel_kl", "raw"] == 0.5
    assert terms["verdict"].isna().all()
    assert math.isnan(terms.loc["pixel_kl", "share"])
    # Shares without ramps: every epoch counts as fully weighted.
    add("student/grad_share/pixel_kl", 0.001)
    assert terms_of(mixed)["verdict"].tolist() == ["negligible"]


@pytest.mark.parametrize("kept", [0, 3])
def test_the_table_has_its_kinds_of_columns_even_when_empty(distilled, kept):
    full = results_of(distilled.events).terms
    empty = results_of(distilled.events[:kept]).terms
    assert len(full) == 3
    assert len(empty) == 0
    assert (empty.dtypes == full.dtypes).all()


def test_agreement_stands_beside_the_teacher(distilled):
    trials = results_of(distilled.events).trials.set_index("number")
    assert trials.loc[1, "teacher_miou"] == 0.60
    assert trials.loc[1, "agreement"] == 0.72
    assert math.isnan(trials.loc[0, "agreement"])


def test_terms_are_in_files_and_json(distilled, tmp_path):
    results = results_of(distilled.events)
    write_tables(results, tmp_path)
    read = pd.read_parquet(tmp_path / "terms.parquet")
    assert read["share"].tolist() == [0.30, 0.004, 0.001]
    assert "negligible" in (tmp_path / "terms.csv").read_text()
    rows = to_json(results)["terms"]
    assert rows[1]["verdict"] == "negligible"
    assert rows[2]["median_share"] is None
