"""The copy for optuna-dashboard: complete, and never in the way."""

import sqlite3
from contextlib import closing

import optuna
import pytest
from simulation import Simulation, make_space

from kdsweep.ledger.events import DoneEvent, EpochEvent
from kdsweep.sweep.mirror import StudyMirror


@pytest.fixture
def driver(tmp_path):
    return Simulation(tmp_path, make_space(sweep={"trials": 6}), slots=2).run()


def replay(driver, mirror):
    for number in driver.sweep.trials:
        mirror.event(driver.sweep, EpochEvent(trial=number, epoch=1))
    mirror.event(driver.sweep, DoneEvent())


def test_ended_search_trials_are_copied_with_their_values(tmp_path, driver):
    path = tmp_path / "study.db"
    for _ in range(2):  # a second session makes the file anew
        warned = []
        mirror = StudyMirror(path, "tiny", driver.study, warned.append)
        mirror.close()
        study = optuna.load_study(storage=f"sqlite:///{path}", study_name="tiny")
        copied = {t.user_attrs["trial"]: t for t in study.trials}
        assert warned == []
        assert set(copied) == set(range(2, 8))
        for number, trial in driver.study.trials().items():
            assert copied[number].state == trial.state
            assert copied[number].params == trial.params
            assert copied[number].intermediate_values == trial.intermediate_values


def test_trials_are_copied_as_they_end(tmp_path, driver, monkeypatch):
    monkeypatch.setattr(driver.study, "trials", dict)
    mirror = StudyMirror(tmp_path / "study.db", "tiny", driver.study, pytest.fail)
    replay(driver, mirror)
    mirror.close()
    study = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tiny")
    assert sorted(t.user_attrs["trial"] for t in study.trials) == list(range(2, 8))


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path, driver):
    warned = []
    mirror = StudyMirror(tmp_path / "missing" / "study.db", "tiny", driver.study, warned.append)
    replay(driver, mirror)
    mirror.close()
    assert len(warned) == 1
    assert "optuna-dashboard" in warned[0]


def test_a_new_session_leaves_the_file_in_place_for_who_reads_it(tmp_path, driver):
    path = tmp_path / "study.db"
    StudyMirror(path, "tiny", driver.study, pytest.fail).close()
    file = path.stat().st_ino
    with closing(sqlite3.connect(path)) as reader:
        StudyMirror(path, "tiny", driver.study, pytest.fail).close()
        assert reader.execute("select count(*) from trials").fetchone() == (6,)
    assert path.stat().st_ino == file


def test_a_file_that_is_no_database_makes_way(tmp_path, driver):
    path = tmp_path / "study.db"
    path.write_text("no database" * 1000)
    StudyMirror(path, "tiny", driver.study, pytest.fail).close()
    study = optuna.load_study(storage=f"sqlite:///{path}", study_name="tiny")
    assert len(study.trials) == 6


@pytest.mark.timeout(60)
def test_a_file_that_somebody_holds_is_one_warning_and_no_wait_for_ever(tmp_path, driver):
    path = tmp_path / "study.db"
    StudyMirror(path, "tiny", driver.study, pytest.fail).close()
    warned = []
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        StudyMirror(path, "tiny", driver.study, warned.append, lock_seconds=0.5).close()
        holder.execute("rollback")
    assert len(warned) == 1
    assert "locked" in warned[0]
