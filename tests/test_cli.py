"""The command line as a user meets it.

Run in this process, because importing torch anew takes seconds; what needs signals has its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import Done, Run
from plain_events import write_plain
from tiny_job import make_job

from kdsweep.config import dump_yaml
from kdsweep.ledger import Experiment


@pytest.fixture
def job_file(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(dump_yaml(make_job(tiny_data, tmp_path)))
    return path


def test_train_prints_a_line_an_epoch_and_says_where_the_student_is(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    done = kdsweep("train", job_file, "--set", "train.epochs=2", "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "resnet18→mobilenet_v2, 2 epochs"
    assert lines[1].startswith("epoch 1/2  student mIoU 0.")
    assert "teacher 0." in lines[2]
    best = Path(lines[-1].removeprefix("The best student is in "))
    assert (tmp_path / best / "student.safetensors").is_file()
    assert best.parts[:2] == ("experiments", "single")


def test_train_as_json_goes_on_where_it_was_ended(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    arguments = ["train", job_file, "--json", "--threads", "1", "--out", tmp_path / "t"]
    command = [sys.executable, "-c", "from kdsweep.cli import main; main()"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    # A fast machine may have ended before the signal came.
    assert process.returncode in (130, 0)
    done = kdsweep(*arguments)
    epochs = [json.loads(line)["epoch"] for line in done.stdout.splitlines()]
    assert first["epoch"] == 1
    assert epochs == list(range(epochs[0], 4))
    assert epochs[0] >= 1


def test_bad_input_is_one_message_and_exit_code_2(
    kdsweep: Run, job_file: Path, tmp_path: Path
) -> None:
    done = kdsweep("train", job_file, "--set", "student.encoder=resnet81")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "student.encoder: unknown encoder" in done.stderr
    assert "resnet81" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "experiments").exists()


def test_validate_names_file_and_line(kdsweep: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "student: {encoder: {values: [resnet18, mobilenet_v2]}}\n"
        "train: {epochs: 2}\n"
    )
    bad.write_text(good.read_text().replace("epochs", "epoch"))
    done = kdsweep("validate", good, bad)
    assert done.returncode == 2
    assert f"{good}: valid, 2 combinations" in done.stdout
    assert "bad.yaml:3" in done.stderr
    assert "epochs" in done.stderr
    assert kdsweep("validate", good).returncode == 0


@pytest.mark.parametrize("option", ["--best-of", "--prior"])
def test_a_sweep_that_nothing_can_be_taken_for_does_not_begin(
    kdsweep: Run, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "student: {encoder: {values: [resnet18, mobilenet_v2]}}\n"
        "train: {epochs: 2}\n"
        "sweep: {try_first: [{student.encoder: mobilenet_v2}]}\n"
    )
    assert kdsweep("validate", file).returncode == 0
    for more in ([], ["--dry-run"]):
        done = kdsweep("run", file, option, "nowhere", *more)
        assert done.returncode == 2
        assert "nowhere: there is no such experiment" in done.stderr
    assert not (tmp_path / "experiments").exists()
    done = kdsweep("validate", file, "--set", "sweep.try_first=[{student.encoder: resnet19}]")
    assert done.returncode == 2
    assert "student.encoder: not a value of this range" in done.stderr


def test_validate_finds_what_only_the_networks_know(kdsweep: Run, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "teacher: {encoder: resnet18}\n"
        "student:\n"
        "  encoder: {values: [resnet18, resnet81]}\n"
        "train: {epochs: 2}\n"
    )
    done = kdsweep("validate", file)
    assert done.returncode == 2
    assert "space.yaml:4" in done.stderr
    assert "resnet81" in done.stderr


def test_validate_looks_for_the_data_and_decodes_none(
    kdsweep: Run, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "space.yaml"
    file.write_text(
        f"data: {{source: folder, path: {tiny_data}, image_size: [32, 32],\n"
        "  split: {val: 0.34, block: 2}}\n"
        "student: {encoder: resnet18}\n"
        "train: {epochs: 2}\n"
    )
    done = kdsweep("validate", file)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"valid, one job \((\d+) training and (\d+) validation frames", done.stdout)
    assert found is not None
    assert sum(map(int, found.groups())) == len(list((tiny_data / "images").iterdir()))
    assert not (tmp_path / "cache").exists()
    gone = ["--set", f"data.path={tmp_path / 'gone'}"]
    done = kdsweep("validate", file, *gone)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {file}: folder: {tmp_path / 'gone'} is not there" in done.stderr
    assert "layout:  PATH is the folder that holds" in done.stderr
    done = kdsweep("validate", file, *gone, "--skip-data")
    assert (done.returncode, done.stdout) == (0, f"{file}: valid, one job (data not looked for)\n")
    done = kdsweep("validate", file, "--set", "student.encoder_weights=imagenet", "--skip-data")
    assert re.search(r"\n  weights: \S+ from imagenet: ", done.stdout)
    # A search space may leave open where the data are.
    done = kdsweep("validate", file, "--set", "data={source: camvid, image_size: [32, 32]}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(no data: camvid needs --data camvid=PATH)" in done.stdout
    done = kdsweep("validate", file, "--set", "data={source: roadscenes, image_size: [32, 32]}")
    assert "(scenes are generated when it runs)" in done.stdout
    assert not (tmp_path / "cache").exists()


SHIPPED = sorted((Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))


def test_all_search_spaces_are_there() -> None:
    assert {space.stem for space in SHIPPED} == {
        "backbones", "backbones_large", "deploy", "few_labels", "loss_weights", "losses",
        "pretrained", "seed", "teacher_mode",
    }  # fmt: skip


# Fifty networks are built for the large one.
@pytest.mark.parametrize(
    "space",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * path.stem.endswith("large"))
        for path in SHIPPED
    ],
)
def test_shipped_search_spaces_are_valid_without_network(
    kdsweep: Run, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        raise AssertionError("validation must not need the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    done = kdsweep("validate", space)
    assert done.returncode == 0, done.stderr
    # A header comment: the question first, then what it costs and how to use it on real roads.
    header = space.read_text().split("\nname:")[0]
    assert header.startswith("# ")
    assert "?" in header.partition("\n#\n")[0]
    assert re.search(r"\n#\n# Cost: .*(CPU cores|not measured)", header)
    assert f"kdsweep run {space.stem} --data" in header


@pytest.mark.parametrize("space", SHIPPED, ids=lambda path: path.stem)
def test_the_commands_in_search_spaces_fit_them(space: Path) -> None:
    from kdsweep.config import load_space

    lines = [line[6:] for line in space.read_text().splitlines() if line.startswith("#     ")]
    commands = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert commands
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[:3] == ["kdsweep", "run", space.stem]
        options = list(zip(words[3::2], words[4::2], strict=True))
        assert {name for name, _ in options} <= {"--data", "--set", "--address"}
        changes = [value for name, value in options if name == "--set"]
        load_space(space, changes, [value for name, value in options if name == "--data"])


def test_the_choice_of_losses_has_all_of_them() -> None:
    from kdsweep.config import load_space
    from kdsweep.distill.catalogue import catalogue

    choices = load_space(SHIPPED[0].with_name("losses.yaml")).tree["distill"]["values"]
    offered = {e.name: e for e in catalogue()}
    for name, entry in offered.items():
        weights = [choice[name]["weight"] for choice in choices if choice.get(name)]
        default = entry.default("weight")
        assert any(weight["min"] < default < weight["max"] for weight in weights), name


def test_the_seed_recipe_is_the_published_one() -> None:
    from kdsweep.config import load_space
    from kdsweep.training.optimizers import Schedule

    (job,) = load_space(SHIPPED[0].with_name("seed.yaml")).corners()
    assert job.label == "resnet34→resnet18"
    assert job.teacher is not None
    assert job.teacher.encoder_weights == job.student.encoder_weights == "imagenet"
    assert job.data.image_size == (512, 512)
    assert job.distill.pixel_kl is not None
    assert job.distill.pixel_kl.weight * job.data.num_classes == pytest.approx(1, rel=1e-15)
    assert job.train.batch_size == 1
    schedule = Schedule(job.train.schedule, job.train.lr, job.train.epochs)
    rates = [schedule.at(epoch) for epoch in (0.0, 0.25, 0.5, 0.75, 1.0, 120.5)]
    assert rates == pytest.approx([0.001, 0.0505, 0.1, 0.0505, 0.001, 0.1])


def test_reports_and_resumes_of_what_is_not_there(kdsweep: Run, tmp_path: Path) -> None:
    for command in ("report", "resume"):
        done = kdsweep(command, "experiments/latest")
        assert done.returncode == 2
        assert "no such experiment" in done.stderr
        assert "kdsweep run" in done.stderr


def test_version_help_and_unknown_commands(kdsweep: Run, tmp_path: Path) -> None:
    assert kdsweep("--version").stdout.startswith("kdsweep 0.")
    assert "resume" in kdsweep("--help").stdout
    unknown = kdsweep("rnu")
    assert unknown.returncode == 2
    assert "run" in unknown.stderr


@pytest.mark.parametrize("arguments", [["losses"], ["losses", "--json"], ["schema"]])
def test_a_reader_that_leaves_ends_a_command_without_a_word(arguments: list[str]) -> None:
    command = [sys.executable, "-c", "from kdsweep.cli import main; main()", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 141


def test_another_broken_pipe_is_no_end_without_a_word(
    kdsweep: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("kdsweep.config.reference.json_schema", fail)
    with pytest.raises(RuntimeError, match="a pipe to another process has broken"):
        kdsweep("schema")


def test_losses_are_listed_and_explained(kdsweep: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = kdsweep("losses")
    assert listed.returncode == 0
    assert "pixel_kl" in listed.stdout
    assert "Averaged over" in kdsweep("losses", "pixel_kl").stdout
    assert json.loads(kdsweep("losses", "dkd", "--json").stdout)["paper"] == "2203.08679"
    names = [json.loads(line)["name"] for line in kdsweep("losses", "--json").stdout.splitlines()]
    assert {"hint", "review"} <= set(names)
    unknown = kdsweep("losses", "pixl_kl")
    assert unknown.returncode == 2
    assert unknown.stdout == ""
    assert "did you mean `pixel_kl`?" in unknown.stderr


def make_experiment(parent: Path, *events: dict[str, object]) -> Path:
    """An experiment whose ledger was written by hand."""
    experiment = Experiment.create(parent, "tiny")
    write_plain(experiment.ledger, events)
    return experiment.path


def header(metric: str = "student/miou") -> dict[str, object]:
    return {"event": "sweep", "name": "tiny", "metric": metric, "trials": 3, "data": {}}


def test_a_run_draws_the_page_at_its_end(
    kdsweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdsweep.sweep import Outcome

    made = make_experiment(tmp_path / "experiments", header(), {"event": "done"})
    page = made / "report" / "index.html"
    space = tmp_path / "space.yaml"
    space.write_text("data: {source: roadscenes, image_size: [64, 96]}\ntrain: {epochs: 2}\n")
    space.write_text(space.read_text() + "student: {encoder: resnet18}\n")

    def run(exit_code: int, *options: str) -> Done:
        outcome = Outcome(made, exit_code, "done" if exit_code == 0 else "sigint")
        monkeypatch.setattr("kdsweep.sweep.run_sweep", lambda *_, **__: outcome)
        done = kdsweep("run", space, *options)
        assert done.returncode == exit_code
        return done

    for code, options in ((0, ["--quiet"]), (0, ["--json"]), (130, [])):
        run(code, *options)
        assert not page.exists()
    done = run(0)
    assert page.exists()
    assert done.stdout.splitlines()[-1] == (
        "Page:   experiments/latest/report/index.html (open it in a browser)"
    ).replace("latest", made.name)
    # One that is newer than the ledger is not drawn again, one that is older is.
    page.write_text("drawn for W&B")
    run(0)
    assert page.read_text() == "drawn for W&B"
    os.utime(page, (1.0, 1.0))
    run(0)
    assert page.read_text().startswith("<!doctype html>")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no figure")

    os.utime(page, (1.0, 1.0))
    monkeypatch.setattr("kdsweep.reporting.write_page", fail)
    done = run(0)
    assert "page could not be drawn: ZeroDivisionError: no figure" in done.stderr
    assert "Page:" not in done.stdout


def test_experiments_are_listed_compared_and_watched(kdsweep: Run, tmp_path: Path) -> None:
    missing = kdsweep("list")
    assert (missing.returncode, "no such folder" in missing.stderr) == (2, True)
    first = make_experiment(tmp_path / "experiments", header())
    second = make_experiment(tmp_path / "experiments", header(), {"event": "done"})
    listed = kdsweep("list")
    assert listed.returncode == 0
    assert first.name in listed.stdout
    assert "done" in listed.stdout
    lines = [json.loads(line) for line in kdsweep("list", "--json").stdout.splitlines()]
    assert {line["path"] for line in lines} == {str(first), str(second)}
    status = kdsweep("status")
    assert status.returncode == 0
    assert "0/3 ended" in status.stdout
    for arguments in (["--json"], ["--watch", "--json"]):
        done = kdsweep("status", *arguments)
        assert json.loads(done.stdout)["state"] == "done"
    assert "tiny" in kdsweep("status", first, "--watch").stdout
    compared = kdsweep("compare", first, second, "--json")
    assert [json.loads(line)["state"] for line in compared.stdout.splitlines()] == [
        "not started", "done"
    ]  # fmt: skip
    assert second.name in kdsweep("compare", first, second).stdout


def test_other_metrics_are_not_compared(kdsweep: Run, tmp_path: Path) -> None:
    first = make_experiment(tmp_path, header())
    second = make_experiment(tmp_path, header("student/pixel_accuracy"))
    done = kdsweep("compare", first, second)
    assert done.returncode == 2
    assert "the metric differs" in done.stderr
    assert done.stdout == ""


def test_a_report_is_indented_json(kdsweep: Run, tmp_path: Path) -> None:
    path = make_experiment(tmp_path, header())
    done = kdsweep("report", path, "--json", "--no-files")
    assert done.stdout.startswith('{\n  "summary": {\n    "name": "tiny"')
    assert json.loads(done.stdout)["trials"] == []


def test_a_report_has_a_page_unless_told_otherwise(kdsweep: Run, tmp_path: Path) -> None:
    path = make_experiment(tmp_path, header())
    assert "Page:" not in kdsweep("report", path, "--no-page", "--no-files").stdout
    assert not (path / "report").exists()
    assert "report/index.html" in "".join(kdsweep("report", path, "--no-files").stdout.split())
    assert "No trial has been drawn yet" in (path / "report" / "index.html").read_text()


LATEST_BY_DEFAULT = ["report", "status", "resume", "confirm", "export", "evaluate", "postprocess"]


@pytest.mark.parametrize("command", [*LATEST_BY_DEFAULT, "extend --trials 1", "wandb sync"])
def test_without_an_experiment_the_latest_is_meant_and_named(
    kdsweep: Run, tmp_path: Path, command: str
) -> None:
    done = kdsweep(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "experiments/latest: there is no such experiment" in done.stderr
    (tmp_path / "experiments" / "20261129-new").mkdir(parents=True)
    (tmp_path / "experiments" / "latest").symlink_to("20261129-new")
    done = kdsweep(*command.split())
    assert done.stderr.splitlines()[0] == "experiment: experiments/20261129-new"
    assert "Missing argument" not in done.stderr


@pytest.mark.parametrize("options", ["--seeds 4 --until-settled", "--max-seeds 9"])
def test_a_confirmation_has_seeds_of_one_kind(kdsweep: Run, options: str) -> None:
    done = kdsweep("confirm", "anywhere", *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "--seeds is a fixed number of seeds" in done.stderr


def test_the_latest_is_where_runs_put_it() -> None:
    from kdsweep.cli.options import LATEST_EXPERIMENT
    from kdsweep.ledger.layout import EXPERIMENTS, LATEST

    assert Path(EXPERIMENTS) / LATEST == LATEST_EXPERIMENT


def test_a_quiet_command_does_not_name_it(kdsweep: Run, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "20261129-new").mkdir(parents=True)
    (tmp_path / "experiments" / "latest").symlink_to("20261129-new")
    assert "experiment: " not in kdsweep("resume", "--quiet").stderr


def test_ctrl_c_in_any_command_is_130_and_one_word(
    kdsweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdsweep.reporting.load", interrupt)
    done = kdsweep("report", tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("rnu", ["error: kdsweep: no such command 'rnu'", "  try:     did you mean 'run'?"]),
        (
            "run backbones --huors 3",
            [
                "error: kdsweep run: no such option",
                "  value:   '--huors'",
                "  try:     did you mean `--hours`?",
            ],
        ),
        ("spaces --nope", ["error: kdsweep spaces: no such option", "  value:   '--nope'"]),
        ("wandb foo", ["error: kdsweep wandb: no such command 'foo'"]),
        (
            "data",
            ["error: kdsweep data: missing argument 'path'", "  try:     kdsweep data --help"],
        ),
        ("report --top 0", ["error: kdsweep report: invalid value for '--top'"]),
        ("run backbones --hours x", ["error: kdsweep run: invalid value for '--hours'"]),
    ],
)
def test_wrong_command_lines_are_told_as_other_errors(
    kdsweep: Run, arguments: str, lines: list[str]
) -> None:
    done = kdsweep(*arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()
    assert len(told) <= 3
    for line, start in zip(told, lines, strict=False):
        assert line.startswith(start)
    assert told[-1].startswith("  try:")


def test_a_group_without_a_command_shows_its_help(kdsweep: Run) -> None:
    done = kdsweep("wandb")
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: kdsweep wandb" in done.stdout
