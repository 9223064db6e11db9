"""What is seen of a step that takes long."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from kdsweep.cli.progress import step_progress


def test_piped_it_is_plain_lines_after_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with step_progress("opening") as advance:
        pass
    assert capsys.readouterr().err == ""
    with step_progress("opening") as advance:
        advance("scoring", 3, 10)
        time.sleep(2.5)
    done = capsys.readouterr()
    assert (done.out, done.err) == ("", "scoring 3/10 …\n")


def test_what_fails_writes_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="bad"), step_progress("opening"):
        raise ValueError("bad")
    time.sleep(2.5)
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with step_progress("opening", quiet=True) as advance:
        advance("scoring", 3, 10)
        time.sleep(2.5)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_a_bar() -> None:
    program = (
        "import time; from kdsweep.cli.progress import step_progress\n"
        "with step_progress('opening') as advance:\n"
        "    advance('scoring', 3, 10); time.sleep(0.5)\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True, env=environment)
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "scoring" in seen
    assert "3/10" in seen
    assert "━" in seen
