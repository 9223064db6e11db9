"""Reports of sweeps whose data have changed, and comparisons across different data."""

import json

import pytest
from experiments_on_disk import results_of, shown, write

from kdsweep.data.identity import Identity
from kdsweep.ledger.atomic import write_json
from kdsweep.reporting import compare, read_status, render, render_comparison, render_status
from kdsweep.reporting.compare import remarks
from kdsweep.reporting.page.page import render_page


def identity(mask="01"):
    splits = {"train": {"a": ("00", mask)}, "val": {"b": ("02", "03")}}
    return Identity("roadscenes", ("road", "car", "pole"), {}, splits)


def named(mask="01"):
    return [{"section": '{"source": "roadscenes"}', **identity(mask).name}]


@pytest.fixture
def changed(new_story):
    """A better trial before the data changed than after it."""
    story = new_story().sweep(num_controls=1, trials=2).session(data=named())
    story.trial(0, teacher=None).run(0, [0.5]).trial(1, control=0).run(1, [0.9])
    data = {**story.header["data"], "num_train": 97}
    told = {"before": [identity().short], "now": [identity("04").short]}
    story.add("part", trials=3, num_controls=2, num_trials=1, data=data,
              differences=["train: 1 mask changed (a)"], **told)  # fmt: skip
    story.session(session=2, data=named("04"))
    return story.trial(2, teacher=None).run(2, [0.4]).trial(3, control=2).run(3, [0.6])


def test_only_the_newest_data_count(changed):
    results = results_of(changed.events)
    assert results.trials["number"].tolist() == [2, 3]
    assert results.epochs["trial"].unique().tolist() == [2, 3]
    assert (results.summary.best.number, results.summary.best.gain) == (3, pytest.approx(0.2))
    assert (results.summary.num_trials, results.summary.num_planned) == (1, 2)
    assert results.summary.data["num_train"] == 97
    assert results.summary.data["fingerprints"] == [identity("04").fingerprint]
    (part,) = results.summary.parts
    assert (part["num_trials"], part["now"]) == (1, [identity("04").short])
    json.dumps(results.summary.to_json(), allow_nan=False)


def test_the_report_says_so_where_the_number_stands(changed):
    results = results_of(changed.events)
    text = " ".join(shown(render, results, width=200).split())
    head = text.partition("Best students")[0]
    assert "1 mask changed (a)" in head
    assert "None of the 1 trial before that is compared with a later one" in head
    assert f"fingerprint {identity('04').fingerprint[:4]}" in head
    assert "0.900" not in text
    page = render_page(results)
    assert "1 mask changed (a)" in page
    assert identity("04").fingerprint in page
    assert identity("04").short in page


def test_a_confirmation_on_other_data_says_so(new_story):
    story = new_story().sweep(
        data={"source": "camvid", "other_data": ["train: 1 mask changed (a)"]}
    )
    results = results_of(story.session().trial(1).run(1, [0.5]).events)
    text = " ".join(shown(render, results, width=200).split())
    assert "found on other data than they are confirmed on (train: 1 mask changed (a))" in text


def test_status_names_the_data(tmp_path, changed):
    seen = read_status(write(tmp_path, changed).path)
    assert seen.data == (identity("04").short,)
    assert (seen.num_outdated, seen.best["number"]) == (1, 3)
    text = shown(render_status, seen, width=120)
    assert f"data: {identity('04').short}" in text
    assert "1 trial of them on data that have changed since" in text


@pytest.fixture
def two(tmp_path, new_story):
    """Two experiments, each with a record of its data; the second is the better one."""

    def make(*masks):
        found = []
        for index, mask in enumerate(masks):
            story = new_story().sweep(num_controls=0, trials=1)
            story.session(data=[] if mask is None else named(mask))
            story.trial(0).run(0, [0.5 + index / 10])
            experiment = write(tmp_path, story, f"exp{index}")
            if mask is not None:
                path = experiment.data(identity(mask).fingerprint)
                path.parent.mkdir()
                write_json(path, identity(mask).to_json())
            found.append(experiment.path)
        return found

    return make


def test_experiments_on_different_data_are_shown_and_not_ranked(two):
    paths = two("01", "05")
    found = compare(paths)
    assert [one.path for one in found] == list(map(str, paths))
    text = " ".join(shown(render_comparison, found, width=200).split())
    assert "2 experiments on different states of roadscenes" in text
    assert "0.500" in text
    assert "0.600" in text
    assert "so their scores are not ranked" in text
    assert f"From {paths[0].name} to {paths[1].name}: train: 1 mask changed (a)." in text


def test_experiments_on_equal_data_are_ranked(two):
    paths = two("01", "01")
    found = compare(paths)
    assert [one.path for one in found] == [str(paths[1]), str(paths[0])]
    assert not any("data" in said for said in remarks(found))


def test_what_was_not_written_down_is_said(two):
    paths = two("01", None)
    found = compare(paths)
    assert [one.path for one in found] == [str(paths[1]), str(paths[0])]
    (said,) = [said for said in remarks(found) if "not written down" in said]
    assert paths[1].name in said
    assert paths[0].name not in said
