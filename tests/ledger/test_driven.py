"""Who runs a sweep: what its ledger's lock says, and what it cannot say of other machines."""

import os
import socket
import sys

import pytest

from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.driven import is_driven, successor
from kdsweep.ledger.events import SessionEvent
from kdsweep.ledger.state import Sweep

HERE = {"pid": os.getpid(), "host": socket.gethostname()}
ELSEWHERE = {"pid": os.getpid(), "host": "another.example"}
EARLIER = {"pid": os.getpid() + 1, "host": socket.gethostname()}


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment.create(tmp_path, "x")
    Ledger.open(experiment.ledger).close()
    return experiment


def sweep(*sessions):
    return Sweep([SessionEvent(session=n, **where) for n, where in enumerate(sessions, 1)])


def test_a_sweep_that_is_locked_is_driven(experiment):
    with Ledger.open(experiment.ledger):
        for sessions in ([], [HERE], [ELSEWHERE]):
            assert is_driven(experiment, sweep(*sessions)) is True


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        ([], False),
        ([HERE], False),
        ([ELSEWHERE], None),
        ([HERE, ELSEWHERE], None),
        ([ELSEWHERE, HERE], False),
    ],
)
def test_a_lock_that_nobody_holds_says_nothing_of_another_machine(experiment, sessions, expected):
    assert is_driven(experiment, sweep(*sessions)) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who holds a lock")
def test_a_driver_that_has_not_begun_its_session_follows_the_last_one(experiment):
    assert successor(experiment, sweep(EARLIER)) is None  # nobody has it
    with Ledger.open(experiment.ledger):
        assert successor(experiment, sweep()) is None  # the first one follows nobody
        assert successor(experiment, sweep(HERE)) is None
        assert successor(experiment, sweep(EARLIER, HERE)) is None
        for last in (EARLIER, ELSEWHERE):
            assert successor(experiment, sweep(HERE, last)) == os.getpid()
