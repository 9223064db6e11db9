"""Experiment folders: never overwritten, found by name or as ``latest``."""

import os

import pytest

from kdsweep.errors import ExperimentError
from kdsweep.ledger import Experiment, Ledger, TrialFolder


def make(parent, name):
    experiment = Experiment.create(parent, name)
    Ledger.open(experiment.ledger).close()
    return experiment


def test_experiments_of_one_name_never_share_a_folder(tmp_path):
    experiments = [make(tmp_path, "backbones") for _ in range(4)]
    assert len({e.path for e in experiments}) == 4
    assert all("-backbones" in e.name for e in experiments)


def test_latest_names_the_newest_and_survives_a_move_of_the_parent(tmp_path):
    make(tmp_path / "a", "first")
    second = make(tmp_path / "a", "second")
    assert Experiment.open(tmp_path / "a" / "latest").path == second.path.resolve()
    os.rename(tmp_path / "a", tmp_path / "b")
    assert Experiment.open(tmp_path / "b" / "latest").name == second.name
    assert sorted(p.name for p in (tmp_path / "b").iterdir() if p.name.startswith(".")) == []


def test_a_folder_called_latest_is_left_alone_with_a_warning(tmp_path):
    (tmp_path / "latest").mkdir()
    with pytest.warns(UserWarning, match="use the folder's own name"):
        make(tmp_path, "sweep")
    assert (tmp_path / "latest").is_dir()
    assert not (tmp_path / "latest").is_symlink()


def test_names_are_made_fit_for_a_folder(tmp_path):
    experiment = make(tmp_path, "../a b/ü")
    assert experiment.path.parent == tmp_path
    assert experiment.name.endswith("-a-b")
    assert make(tmp_path, "///").name.endswith("-sweep")


def test_a_missing_experiment_names_what_is_there_nearest_first(tmp_path):
    make(tmp_path, "backbones")
    wanted = make(tmp_path, "losses")
    with pytest.raises(ExperimentError, match="no such experiment") as raised:
        Experiment.open(tmp_path / wanted.name.replace("losses", "loses"))
    assert str(raised.value).index("losses") < str(raised.value).index("backbones")
    with pytest.raises(ExperimentError, match="kdsweep run"):
        Experiment.open(tmp_path / "nowhere" / "x")


def test_a_folder_that_is_no_experiment_is_told_so(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ExperimentError, match="not an experiment"):
        Experiment.open(tmp_path / "photos")


def test_paths_are_those_of_the_documented_layout(tmp_path):
    experiment = make(tmp_path, "x")
    trial = experiment.trial(7)
    paths = {
        experiment.space_yaml: "space.yaml",
        experiment.spec_json: "spec.json",
        experiment.environment_json: "environment.json",
        experiment.ledger: "ledger.jsonl",
        experiment.study_db: "study.db",
        experiment.wandb: "wandb",
        experiment.wandb_sweep: "wandb/sweep.json",
        experiment.report: "report",
        trial.path: "trials/0007",
        trial.job_yaml: "trials/0007/job.yaml",
        trial.log: "trials/0007/log.txt",
        trial.checkpoint: "trials/0007/checkpoint",
        trial.best: "trials/0007/best",
        trial.samples: "trials/0007/samples.png",
        trial.wandb: "trials/0007/wandb",
        trial.frames: "trials/0007/frames",
        trial.frame(12, "truth"): "trials/0007/frames/00012-truth.png",
    }
    assert {str(p.relative_to(experiment.path)): p for p in paths} == {
        v: k for k, v in paths.items()
    }


def test_drafts_are_ours_alone_and_never_the_only_weights(tmp_path):
    trial = TrialFolder(tmp_path / "0000").create()
    for name in (".lock", ".attempt", ".DS_Store", ".best.old.x1", ".job.yaml.x2"):
        (trial.path / name).write_text("")
    trial.job_yaml.write_text("")
    assert [path.name for path in trial.drafts()] == [".job.yaml.x2"]
    trial.best.mkdir()
    assert {path.name for path in trial.drafts()} == {".best.old.x1", ".job.yaml.x2"}
    trial.frames.mkdir()
    for name in ("00001-image.png", ".00001-image.png.x3", ".00001-teacher.png.x4", ".DS_Store"):
        (trial.frames / name).write_text("")
    (trial.path / ".samples.png.x5").write_text("")
    trial.samples.write_text("")
    assert {path.name for path in trial.drafts()} == {
        ".best.old.x1", ".job.yaml.x2", ".00001-image.png.x3", ".00001-teacher.png.x4",
        ".samples.png.x5",
    }  # fmt: skip


def test_pictures_are_found_by_frame_and_by_what_they_show(tmp_path):
    trial = TrialFolder(tmp_path / "trial")
    assert trial.frame_pictures() == {}
    trial.frames.mkdir(parents=True)
    for index, what in [(123456, "image"), (7, "truth"), (7, "image")]:
        trial.frame(index, what).touch()
    (trial.frames / "notes.png").touch()
    assert trial.frame_pictures() == {
        7: {"image": trial.frame(7, "image"), "truth": trial.frame(7, "truth")},
        123456: {"image": trial.frame(123456, "image")},
    }


def test_a_trial_folder_stands_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = TrialFolder("runs/one").create().create()
    assert folder.path == tmp_path / "runs" / "one"
    assert folder.path.is_dir()


def test_a_name_without_its_folder_finds_the_experiments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError, match="holds none"):
        Experiment.open("backbones")
    for name in ("losses", "backbones"):
        Experiment.create(tmp_path / "experiments", name).ledger.touch()
    Experiment.create(tmp_path, "beside").ledger.touch()
    with pytest.raises(ExperimentError) as caught:
        Experiment.open("backbones")
    there = str(caught.value).split("there:   ")[1].splitlines()[0].split(", ")
    assert [name.split("-")[-1] for name in there] == ["backbones", "losses", "beside"]
    assert [name.startswith("experiments/") for name in there] == [True, True, False]
    assert "latest" not in str(caught.value)
    with pytest.raises(ExperimentError, match="try:     did you mean `latest`"):
        Experiment.open("experiments/latst")
    with pytest.raises(ExperimentError) as caught:
        Experiment.open("other/backbones")
    assert "experiments/" not in str(caught.value)
