"""CPU seconds of a whole sweep for each epoch of a student: kdsweep, and scripts written by hand.

The same trials on the same frames, networks, losses and number of slots, from a process with
nothing imported to one that has ended everything it started:

- ``kdsweep`` and ``kdsweep, K = 4`` (four students with one teacher): ``kdsweep run``;
- ``Ray Tune``: a function trainable that reports each epoch, in workers that are used again;
- ``Ray Tune, resumable``: the same as Ray's guide has it for a sweep that can go on: after each
  epoch a checkpoint of both networks and their moments, of which two are kept; and the dashboard,
  which ``ray.init()`` starts by itself. kdsweep does both;
- ``Optuna``: a study that starts a process for each trial.

The frames are drawn and decoded before; the scripts read them as arrays, and score teacher and
student after each epoch as kdsweep does. They keep the weights of the best epoch, and neither
latencies, shares of the gradient, pictures, logs nor a copy of the study. CPU seconds are those of
all processes that a way starts, Ray's own included; they are looked up five times a second, because
Ray's processes leave no account of their children. Run (Linux only)::

    python benchmarks/peers.py                       # 8 trials of 4 epochs: 20 minutes on two cores
    python benchmarks/peers.py --trials 4 --epochs 2 --scenes 24 --val-scenes 8
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import arguments, finish, network_arguments, ratio

NUM_CLASSES = 13
RESUMABLE = "Ray Tune, resumable"
BY_HAND = ("Ray Tune", RESUMABLE, "Optuna")
WAYS = ("kdsweep", "kdsweep, K = 4", *BY_HAND)
SPACE = """
name: peers
data: {{source: roadscenes, image_size: [{height}, {width}], augment: none,
        scenes: {scenes}, val_scenes: {val_scenes}, test_scenes: 0}}
teacher: {{encoder: {teacher}}}
student: {{encoder: {student}}}
distill: {{pixel_kl: {{weight: {{min: 0.1, max: 10.0}}}}}}
train: {{epochs: {epochs}, batch_size: {batch_size}, lr: 1.0e-4}}
sweep: {{trials: {trials}, sampler: random, scheduler: none, controls: none,
         max_concurrent: {slots}, students_per_teacher: {students}}}
resources: {{cpus_per_trial: 1}}
tracking: {{wandb: {{mode: "off"}}}}
"""
PR_SET_CHILD_SUBREAPER = 36


# -- a training as one writes it


def train(
    config: dict[str, Any],
    weight: float,
    report: Callable[[float, Callable[[Path], None]], None],
    best: Path,
    saved: Path | None = None,
) -> None:
    """Train a teacher and a student, and report the student's mIoU after each epoch.

    Args:
        config: The arguments of this script.
        weight: Of the distillation loss.
        report: Told the mIoU, and how to save a checkpoint to a file.
        best: Where the student's weights of its best epoch go.
        saved: The checkpoint to go on from.
    """
    import segmentation_models_pytorch as smp
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    torch.manual_seed(0)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    arrays = np.load(config["frames"])

    def batches(split: str, order: np.ndarray, size: int) -> Any:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            pixels = torch.from_numpy(arrays[f"{split}_images"][rows]).permute(0, 3, 1, 2)
            images = ((pixels.float() / 255 - mean) / std).contiguous(
                memory_format=torch.channels_last
            )
            yield images, torch.from_numpy(arrays[f"{split}_labels"][rows]).long()

    arrays = {name: arrays[name] for name in arrays.files}
    networks, optimizers = [], []
    for encoder in (config["teacher"], config["student"]):
        network = smp.Unet(encoder, encoder_weights=None, classes=NUM_CLASSES)
        networks.append(network.to(memory_format=torch.channels_last))
        optimizers.append(torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True))
    teacher, student = networks
    first, most = 0, -1.0
    if saved is not None:
        state = torch.load(saved)
        first, most = state["epoch"], state["most"]
        for part, values in zip([*networks, *optimizers], state["parts"], strict=True):
            part.load_state_dict(values)

    def save(path: Path) -> None:
        parts = [part.state_dict() for part in (*networks, *optimizers)]
        torch.save({"epoch": epoch + 1, "most": most, "parts": parts}, path)

    for epoch in range(first, config["epochs"]):
        teacher.train()
        student.train()
        order = np.random.default_rng(epoch).permutation(len(arrays["train_images"]))
        for images, labels in batches("train", order, config["batch_size"]):
            target = teacher(images)
            F.cross_entropy(target, labels, ignore_index=255).backward()
            logits = student(images)
            log_p, log_q = F.log_softmax(target.detach(), 1), F.log_softmax(logits, 1)
            kl = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).mean()
            (F.cross_entropy(logits, labels, ignore_index=255) + weight * kl).backward()
            for network, optimizer in zip(networks, optimizers, strict=True):
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        confusion = torch.zeros(2, NUM_CLASSES**2)
        order = np.arange(len(arrays["val_images"]))
        with torch.no_grad():
            for images, labels in batches("val", order, 2 * config["batch_size"]):
                for place, network in enumerate(networks):
                    predicted = network.eval()(images).argmax(1)
                    both = (labels * NUM_CLASSES + predicted)[labels != 255]
                    confusion[place] += torch.bincount(both, minlength=NUM_CLASSES**2)
        counts = confusion[1].view(NUM_CLASSES, NUM_CLASSES)
        union = counts.sum(0) + counts.sum(1) - counts.diag()
        miou = float((counts.diag() / union)[union > 0].mean())
        if miou > most:
            most = miou
            torch.save(student.state_dict(), best)
        report(miou, save)


def through_tune(config: dict[str, Any], folder: Path, resumable: bool) -> None:
    import ray
    from ray import tune

    def report(miou: float, save: Callable[[Path], None]) -> None:
        if not resumable:
            tune.report({"miou": miou})
            return
        with tempfile.TemporaryDirectory() as temporary:
            save(Path(temporary, "state.pt"))
            checkpoint = tune.Checkpoint.from_directory(temporary)
            tune.report({"miou": miou}, checkpoint=checkpoint)

    def trial(drawn: dict[str, Any]) -> None:
        best = Path(tune.get_context().get_trial_dir(), "best.pt")
        if (checkpoint := tune.get_checkpoint()) is None:
            train(config, drawn["weight"], report, best)
        else:
            with checkpoint.as_directory() as there:
                train(config, drawn["weight"], report, best, Path(there, "state.pt"))

    ray.init(
        address="local", num_cpus=config["slots"], include_dashboard=resumable, log_to_driver=False
    )
    tune.Tuner(
        trial,
        param_space={"weight": tune.loguniform(0.1, 10.0)},
        tune_config=tune.TuneConfig(num_samples=config["trials"], reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()
    ray.shutdown()


def through_optuna(config: dict[str, Any], folder: Path) -> None:
    import optuna

    def objective(trial: optuna.Trial) -> float:
        weight = trial.suggest_float("weight", 0.1, 10.0, log=True)
        one = json.dumps(config | {"weight": weight, "best": str(folder / f"{trial.number}.pt")})
        command = [sys.executable, __file__, "--one", one]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return max(map(float, printed.split()))

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=config["trials"], n_jobs=config["slots"])


# -- all of them


class Watch(threading.Thread):
    """Looks five times a second at what each process below this one has used."""

    def __enter__(self) -> Watch:
        self.seconds: dict[int, tuple[str, float]] = {}
        self.over = threading.Event()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        """Look, until the block ends."""
        tick = os.sysconf("SC_CLK_TCK")
        while not self.over.wait(0.2):
            parents, used = {}, {}
            for path in Path("/proc").glob("[0-9]*/stat"):
                try:
                    head, _, rest = path.read_text().rpartition(") ")
                    words = path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                fields, pid = rest.split(), int(path.parent.name)
                parents[pid] = int(fields[1])
                name = words or head.partition("(")[2]
                used[pid] = (name, (int(fields[11]) + int(fields[12])) / tick)
            ours = {os.getpid()}
            for _ in range(8):  # generations
                ours |= {pid for pid, parent in parents.items() if parent in ours}
            self.seconds |= {pid: used[pid] for pid in ours - {os.getpid()}}

    def by_process(self) -> dict[str, float]:
        """Seconds of each kind of process, those with many first."""
        found: Counter[str] = Counter()
        for words, seconds in self.seconds.values():
            found[_kind(words)] += seconds
        return {kind: round(seconds, 1) for kind, seconds in found.most_common()}


def _kind(words: str) -> str:
    if words.startswith("ray::") and "Agent" not in words:
        return "workers"
    if "--one" in words and "--by-hand" not in words:
        return "trials"
    if "ray" in words.split(" -m ")[0].lower() and "peers.py" not in words:
        return "Ray itself"
    return "driver"


def measure(command: list[str]) -> tuple[float, dict[str, float]]:
    """Wall-clock seconds, and CPU seconds by process, of all that a command starts."""
    begun = time.perf_counter()
    with Watch() as watch:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - begun
        # What outlived its parent has become ours (see main).
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
    return wall, watch.by_process()


def decode(args: argparse.Namespace, folder: Path) -> Path:
    """Draw and decode the frames once; the scripts' arrays."""
    from kdsweep.config import load_space
    from kdsweep.data import open_data

    data = open_data(load_space(folder / "space_1.yaml").jobs_to_check()[0].data)
    frames = folder / "frames.npz"
    np.savez(
        frames,
        train_images=data.train.images_NHWC,
        train_labels=data.train.labels_NHW,
        val_images=data.val.images_NHWC,
        val_labels=data.val.labels_NHW,
    )
    return frames


def main() -> None:
    """Let all take turns."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.set_defaults(height=32, width=48)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--val-scenes", type=int, default=32)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--by-hand", choices=BY_HAND, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one and not args.by_hand:
        config = json.loads(args.one)
        best = Path(config["best"])
        train(config, config["weight"], lambda miou, _: print(miou, flush=True), best)
        return
    if args.by_hand:
        config = json.loads(args.one)
        if args.by_hand == "Optuna":
            through_optuna(config, Path(config["folder"]))
        else:
            through_tune(config, Path(config["folder"]), args.by_hand == RESUMABLE)
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in args.ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ |= {"KDSWEEP_CACHE": str(folder / "cache"), "RAY_USAGE_STATS_ENABLED": "0"}
        for students in (1, 4):
            text = SPACE.format(**vars(args), students=students)
            (folder / f"space_{students}.yaml").write_text(text, encoding="utf-8")
        config = vars(args) | {"folder": temporary, "frames": str(decode(args, folder))}
        by_hand = [sys.executable, __file__, "--one", json.dumps(config), "--by-hand"]
        run = [sys.executable, "-m", "kdsweep", "run", "--quiet", "--out", str(folder / "out")]
        commands = {
            WAYS[0]: [*run, str(folder / "space_1.yaml")],
            WAYS[1]: [*run, str(folder / "space_4.yaml")],
            **{way: [*by_hand, way] for way in BY_HAND},
        }
        for number in range(args.rounds):
            for way in args.ways[:: 1 if number % 2 == 0 else -1]:
                wall_s, parts = measure(commands[way])
                cpu_s = sum(parts.values())
                each = cpu_s / (args.trials * args.epochs)
                print(f"{way}: {each:.2f} CPU s an epoch, {wall_s:.0f} s, {parts}", file=sys.stderr)
                row = {"cpu_s": cpu_s, "each_s": each, "wall_s": wall_s, "by process": parts}
                rows[way].append(row)
    each = {way: [row["each_s"] for row in found] for way, found in rows.items()}
    ratios = {
        f"{way} / kdsweep, CPU seconds": ratio(values, each["kdsweep"])
        for way, values in each.items()
        if "kdsweep" in each and way != "kdsweep"
    }
    lines = [f"{args.trials} trials of {args.epochs} epochs, {args.slots} slots"]
    for way, values in each.items():
        told = f"{statistics.median(values):6.2f} CPU s an epoch of a student"
        lines.append(f"  {way:22}{told}; {rows[way][-1]['by process']}")
    finish(args, ratios, rows, lines)


if __name__ == "__main__":
    main()
