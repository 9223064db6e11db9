"""The first signal asks for a pause, a second SIGINT ends the process at once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from kdsweep.sweep.signals import Interruption, blocked


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGINT, "sigint"), (signal.SIGTERM, "sigterm"), (signal.SIGHUP, "sighup")],
)
def test_a_signal_is_remembered_and_the_old_handlers_come_back(number, reason):
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    interruption = Interruption()
    interruption.install()
    interruption.install()
    try:
        assert interruption.reason is None
        os.kill(os.getpid(), number)
        assert interruption.reason == reason
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.reason == reason
    finally:
        interruption.uninstall()
    assert {n: signal.getsignal(n) for n in before} == before


def test_a_second_sigint_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from kdsweep.sweep.signals import Interruption\n"
        "i = Interruption(); i.install()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(i.reason, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == "sigterm\n"


def test_a_hangup_that_is_ignored_stays_ignored():
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup leaves it
        "from kdsweep.sweep.signals import Interruption\n"
        "i = Interruption(); i.install()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(i.reason)\n"
        "i.uninstall()\n"
        "assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n")


def test_signals_are_held_back_here_and_from_what_is_started():
    interruption = Interruption()
    interruption.install()
    try:
        with blocked():
            # To this thread: a signal to the process may reach a thread that others have left.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert interruption.reason is None
            show = "import signal; print(sorted(signal.pthread_sigmask(0, [])))"
            done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True)
        assert interruption.reason == "sigint"
    finally:
        interruption.uninstall()
    assert "SIGINT" in done.stdout
    assert "SIGTERM" in done.stdout
    assert "SIGHUP" in done.stdout


def test_outside_of_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    interruption = Interruption()
    thread = threading.Thread(target=interruption.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    interruption.uninstall()
