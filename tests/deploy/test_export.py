"""Exports agree with the student, say what they are, and are never written over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from kdsweep import deploy, export
from kdsweep.deploy import export as export_module
from kdsweep.deploy.choosing import TrialProgress, best_trial, choose_student
from kdsweep.deploy.export import export_student
from kdsweep.deploy.export_check import compare
from kdsweep.deploy.tables import milliseconds
from kdsweep.deploy.torch_model import TorchModel
from kdsweep.deploy.trained_student import open_training
from kdsweep.errors import ConfigError, ExperimentError, KdsweepError, ModelFileError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.events import EpochEvent, TrialEvent

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Get = Callable[[str], Path]


def pictures(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["unet", "fpn", "deeplabv3plus", "segformer"])
def test_every_architecture_makes_the_round_trip(arch: str, trained: Get, tmp_path: Path) -> None:
    done = export(trained(arch), format="onnx", out=tmp_path / "onnx")
    assert done.check.agreement >= 0.999
    assert done.check.num_frames == 4
    assert done.written.fixed_size is None
    student, shipped = deploy.load(trained(arch)), deploy.load(done.model)
    # Batches and sizes that it was not exported with, in multiples of every stride.
    for count, size in ((1, (64, 64)), (3, (64, 64)), (2, (96, 128))):
        images = pictures(count, size)
        wanted, found = student.logits(images), shipped.logits(images)
        assert found.shape == wanted.shape == (count, 3, *size)
        # Logits are about 1; with one thread single ones differ by 3e-4.
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
        same = student.class_ids(images) == shipped.class_ids(images)
        assert same.mean() >= 0.999
    # A picture of any size comes back in that size.
    picture = pictures(1, (37, 51))[0]
    assert shipped(picture).shape == (37, 51)
    assert (student(picture) == shipped(picture)).mean() >= 0.999


def test_the_onnx_file_says_what_it_is(exported: Get, trained: Get) -> None:
    model = onnx.load(exported("onnx") / "student.onnx")
    found = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    student = json.loads((trained("unet") / "best" / "student.json").read_text())
    for key in ("classes", "palette", "image_size", "mean", "std", "model", "data"):
        assert found[key] == student[key]
    assert found["data"]["short"] == f"folder 8+4, {found['data']['fingerprint'][:4]}"
    assert found["provenance"]["trial"] == "unet"
    assert found["provenance"]["miou"] == student["miou"]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    dims = model.graph.input[0].type.tensor_type
    assert dims.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in dims.shape.dim] == ["N", "H", "W", 3]
    # Where the code lay that it was exported with is nobody's business.
    assert str(Path(export_module.__file__).parents[2]).encode() not in model.SerializeToString()


def test_int8_is_checked_and_smaller(exported: Get) -> None:
    found = json.loads((exported("int8") / "export.json").read_text())
    before, after = found["miou_before"]["value"], found["miou"]["value"]
    assert 100 * (before - after) <= 2
    sizes = {f: sum(p.stat().st_size for p in exported(f).glob("*.onnx")) for f in ("onnx", "int8")}
    # A quarter of the weights; of a network this small the graph itself is much.
    assert sizes["int8"] < 0.7 * sizes["onnx"]
    kinds = {n.op_type for n in onnx.load(exported("int8") / "student.int8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    picture = pictures(1, (64, 64))[0]
    same = deploy.load(exported("int8"))(picture) == deploy.load(exported("onnx"))(picture)
    assert same.mean() > 0.8


def test_both_are_timed_in_turns(
    trained: Get, exported: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    def timed(run: Any, device: object) -> list[float]:
        order.append(type(run.func.__self__).__name__)
        return [0.001 * len(order)]

    monkeypatch.setattr("kdsweep.deploy.export_check.timed_runs", timed)
    _, card, opened = open_training(choose_student(trained("unet")), ())
    weights = trained("unet") / "best" / "student.safetensors"
    models = TorchModel(card, weights, "cpu"), deploy.load(exported("onnx"))
    check = compare(*models, opened.val, num_threads=1, runtime="any", versions={})
    assert order == ["TorchModel", "OnnxModel", "OnnxModel", "TorchModel"]
    # The machine has become slower all the while, and neither is the worse for it.
    assert check.latency_before.p50_ms == check.latency.p50_ms == 2.5


@pytest.mark.slow
def test_int8_that_loses_too_much_is_not_kept(
    trained: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module.ExportCheck, "points_lost", property(lambda self: 3.5))
    with pytest.raises(KdsweepError, match=r"3\.5 points of mIoU worse"):
        export(trained("unet"), format="int8", out=tmp_path / "int8")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_disagrees_is_not_kept(
    trained: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export_module.load

    def wrong(path: Path, **options: object) -> deploy.DeployedModel:
        model = right(path, **options)  # type: ignore[arg-type]
        ids = model.class_ids
        model.class_ids = lambda images: (ids(images) + 1) % 3  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(export_module, "load", wrong)
    with pytest.raises(KdsweepError, match=r"same class as PyTorch on 0\.0000%"):
        export(trained("unet"), format="torch", out=tmp_path / "torch")
    assert list(tmp_path.iterdir()) == []


def test_the_torch_export_stands_alone(exported: Get, trained: Get) -> None:
    assert {file.name for file in exported("torch").iterdir()} == {
        "student.safetensors",
        "student.json",
        "job.yaml",
        "export.json",
        "MODEL_CARD.md",
    }
    picture = pictures(1, (40, 30))[0]
    wanted = deploy.load(trained("unet"))(picture)
    assert (deploy.load(exported("torch"))(picture) == wanted).all()


def test_the_model_card_has_scores_costs_and_limits(exported: Get) -> None:
    text = (exported("int8") / "MODEL_CARD.md").read_text()
    check = json.loads((exported("int8") / "export.json").read_text())
    for heading in ("Data", "Recipe", "Scores", "Costs", "Limits", "Provenance"):
        assert f"## {heading}\n" in text
    assert len(check["ious"]) == 3
    for score in (check["miou_before"], check["miou"], *check["ious"]):
        value, low, high = (score[key] for key in ("value", "low", "high"))
        assert low <= value <= high
        assert f"| {value:.4f} | {low:.4f} to {high:.4f} |" in text
    mean = np.mean([iou["value"] for iou in check["ious"]])
    assert check["miou"]["value"] == pytest.approx(mean)
    assert "8 training frames, 4 validation" in text
    assert "those of 8 training frames" in text
    assert "opset 18" in text
    assert "one training with one seed" in text
    for took in (check["latency_before"], check["latency"]):
        assert took["num_threads"] >= 1
        assert took["p50_ms"] <= took["p95_ms"]
        assert milliseconds(took["p50_ms"]) in text
        assert took["device"] in text
    size = (exported("int8") / "student.int8.onnx").stat().st_size
    assert check["file_mb"] == pytest.approx(size / 1e6, abs=1e-3)
    student = deploy.load(exported("torch"))
    num_params = sum(p.numel() for p in student.network.parameters())  # type: ignore[attr-defined]
    assert round(1e6 * check["params_m"]) == num_params
    assert "`pixel_kl` × 1" in text


def test_claims_of_repeated_seeds_stand_in_the_card(trained: Get, tmp_path: Path) -> None:
    done = export_student(
        choose_student(trained("unet")), format="torch", out=tmp_path / "out", claims=["it gains"]
    )
    text = (done.folder / "MODEL_CARD.md").read_text()
    assert "- it gains\n" in text
    assert "one training with one seed" not in text


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ("asha", "2 of 4 epochs: its sweep went on with better ones"),
        ("constraint", "2 of 4 epochs: it costs more than its sweep allows"),
        (None, "2 of 4 epochs: it was still in training"),
    ],
)
def test_the_card_says_what_was_cut_short_and_scored_on_test(
    trained: Get, tmp_path: Path, stop: str | None, said: str
) -> None:
    experiment = Experiment.create(tmp_path, "made")
    trial = experiment.trial(0)
    shutil.copytree(trained("unet"), trial.path, ignore=shutil.ignore_patterns("exports"))
    job = trial.job_yaml.read_text()
    assert "epochs: 1\n" in job
    trial.job_yaml.write_text(job.replace("epochs: 1\n", "epochs: 4\n"))
    with Ledger.open(experiment.ledger) as ledger:
        ledger.append(TrialEvent(trial=0, kind="search", label="x", student="x"))
        for epoch, end in ((1, None), (2, stop)):
            ledger.append(EpochEvent(trial=0, epoch=epoch, value=0.1, stop=end))
    miou = {"value": 0.5, "low": 0.4, "high": 0.625}
    experiment.evaluation.mkdir()
    trial.evaluation.scores("test").write_text(
        json.dumps({"epoch": 1, "num_frames": 9, "scores": {"miou": miou}})
    )
    trial.evaluation.test_scorings.write_text(json.dumps({"scorings": [{}, {}]}))
    done = export_student(choose_student(experiment.path, 0), format="torch")
    text = (done.folder / "MODEL_CARD.md").read_text()
    assert f"trained for {said}" in text
    assert "2 of 4 epochs in batches" in text
    how = (
        "9 frames, in PyTorch, whole images, scored at 64×64 (protocol resized): mIoU 0.5000, 95 % "
    )
    assert f"{how}0.4000 to 0.6250" in text
    assert "looked at 2 times" in text
    if stop == "constraint":
        with pytest.raises(ExperimentError, match="within the sweep's constraints"):
            best_trial(experiment)
    else:
        assert best_trial(experiment) == 0


def test_the_card_of_a_self_taught_student_says_so(trained: Get, tmp_path: Path) -> None:
    trial = Experiment.create(tmp_path, "made").trial(0)
    shutil.copytree(trained("unet"), trial.path, ignore=shutil.ignore_patterns("exports"))
    job = YAML(typ="safe").load(trial.job_yaml)
    job |= {"teacher": None, "distill": {"teacher": "self", "pixel_kl": {"weight": 2.0}}}
    trial.job_yaml.write_text(json.dumps(job))
    done = export_student(choose_student(trial.path), format="torch")
    said = (done.folder / "MODEL_CARD.md").read_text()
    assert "Taught by the running average of its own weights." in said
    assert "Distillation: `pixel_kl` × 2" in said
    assert "without a teacher" not in said


def test_of_equal_students_the_smaller_one_ships(tmp_path: Path) -> None:
    experiment = Experiment.create(tmp_path, "sweep")
    with Ledger.open(experiment.ledger) as ledger:
        for number, (value, size) in enumerate([(0.4, 1), (0.5, 30), (0.5, 20), (0.5, 20)]):
            ledger.append(TrialEvent(trial=number, kind="search", label="x", student="x"))
            metrics = {"student/params_m": float(size)}
            ledger.append(EpochEvent(trial=number, epoch=1, value=value, metrics=metrics))
            best = experiment.trial(number).best
            best.mkdir(parents=True)
            # Its file says nothing of it: weights may be kept in half the bytes.
            (best / "student.safetensors").write_bytes(bytes(100 - size))
    assert best_trial(experiment) == 2


def test_a_student_is_also_meant_by_its_files(exported: Get, trained: Get) -> None:
    folder = trained("unet")
    for path in (folder, folder / "best", folder / "best" / "student.safetensors"):
        assert choose_student(path).weights == folder / "best" / "student.safetensors"
        assert choose_student(path).provenance["trial"] == "unet"
    shipped = exported("torch")
    for path in (shipped, shipped / "student.safetensors", shipped / "student.json"):
        chosen = choose_student(path)
        assert chosen.weights == shipped / "student.safetensors"
        assert chosen.card().provenance["trial"] == "unet"  # not the name of the export's folder
    for path in (exported("onnx"), exported("onnx") / "student.onnx"):
        with pytest.raises(ModelFileError, match="is an ONNX file"):
            choose_student(path)
    with pytest.raises(ModelFileError, match="is no trained student"):
        choose_student(folder / "job.yaml")


def test_nothing_is_written_over(trained: Get, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    with pytest.raises(ConfigError, match="never overwritten"):
        export(trained("unet"), format="torch", out=out)
    first = export(trained("unet"), format="torch")
    second = export(trained("unet"), format="torch")
    assert [first.folder.name, second.folder.name] == ["torch", "torch-2"]


def test_missing_packages_are_named(trained: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdsweep.deploy import optional_dependencies

    monkeypatch.setattr(optional_dependencies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'kdsweep\[deploy\]'"):
        export(trained("unet"), format="onnx")


def make_experiment(
    parent: Path, values: dict[int, list[float | None]], kinds: dict[int, str]
) -> Path:
    experiment = Experiment.create(parent, "made")
    with Ledger.open(experiment.ledger) as ledger:
        for number, course in values.items():
            kind = kinds.get(number, "search")
            ledger.append(TrialEvent(trial=number, kind=kind, label="x", student="x"))
            for epoch, value in enumerate(course, 1):
                ledger.append(EpochEvent(trial=number, epoch=epoch, value=value))
            best = experiment.trial(number).create().best
            best.mkdir()
            for file in ("student.safetensors", "student.json"):
                (best / file).write_bytes(b"{}")
            experiment.trial(number).job_yaml.write_text("{}")
    return experiment.path


def test_the_best_trial_may_be_a_control_and_has_a_student(tmp_path: Path) -> None:
    values = {0: [0.9], 1: [0.2, 0.7, 0.5], 2: [0.8], 3: [0.6, None]}
    path = make_experiment(tmp_path, values, {0: "control"})
    experiment = Experiment.open(path)
    (experiment.trial(2).best / "student.safetensors").unlink()
    assert best_trial(experiment) == 0
    (experiment.trial(0).best / "student.safetensors").unlink()
    with pytest.raises(ExperimentError, match="--trial 1 takes the best one that is here"):
        best_trial(experiment)
    assert choose_student(path, 1).progress() == TrialProgress(epochs=3)
    assert choose_student(path, 1).provenance["experiment"] == path.name
    assert choose_student(path, 3).folder.path.name == "0003"
    assert choose_student(experiment.trial(3).best).experiment == experiment
    with pytest.raises(ExperimentError, match=r"there is no trial 7\n  there:   0000 to 0003"):
        choose_student(path, 7)
    with pytest.raises(ExperimentError, match=r"best/student.safetensors is missing"):
        choose_student(path, 2)
