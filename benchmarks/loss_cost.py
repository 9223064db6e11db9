"""What each distillation loss adds to a training step, as a share of the step without it.

The step without is the teacher's and the student's forward and backward pass and both optimiser
steps (U-Net/ResNet34 → U-Net/ResNet18 unless named otherwise). What a loss adds is its own forward
and backward pass, on activations of these networks, and the optimiser step of what it learns
itself, with all at defaults. It is timed on its own, because the difference of two whole steps
drowns in the noise of a shared machine; on a CPU the time is that of the one thread. All take turns
in every round. ``measuring`` is one more backward pass of the student, which the share of a term's
gradient costs, spread over an epoch of so many steps.

Of every loss the operations are counted too (``operations.py``), which no other work disturbs, for
each number of the activations that the student gives it. Run::

    python benchmarks/loss_cost.py --height 64 --width 96 --batch-size 8
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from operations import count
from side_by_side import arguments, clock, finish, make_learner, network_arguments, spread, timed

from kdsweep.config.distill import DistillConfig
from kdsweep.distill import LOSSES
from kdsweep.models import Activations
from kdsweep.training.learner import Learner
from kdsweep.training.online_step import online_step
from kdsweep.training.step import StepSettings, TrainingBatch
from kdsweep.training.supervised import SupervisedLoss
from kdsweep.training.teacher import Teacher

NUM_CLASSES = 11
CONTROL = "no distillation"


def make_student(args: argparse.Namespace, term: str, taps: list[str], teacher: Learner) -> Learner:
    """A student with one term at its defaults."""
    config = DistillConfig.model_validate({term: {}}).terms()[term]
    options = {"weight": 1.0, **config.options()}
    return make_learner(args.student, NUM_CLASSES, term=(term, options), teacher=teacher, taps=taps)


def main() -> None:
    """Time all losses, side by side."""
    parser = arguments(__doc__)
    network_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps-per-epoch", type=int, default=46)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shape = (args.batch_size, args.height, args.width)
    # Labels in patches, as on roads: some losses look at classes per cell.
    coarse = torch.randint(0, NUM_CLASSES, (shape[0], shape[1] // 8, shape[2] // 8))
    labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2).to(device)
    pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)
    terms = LOSSES.names()
    every = DistillConfig.model_validate({name: {} for name in terms}).terms()
    taps = {name: list(getattr(config, "taps", ())) for name, config in every.items()}
    all_taps = sorted(set().union(*taps.values()))
    teacher = Teacher(make_learner(args.teacher, NUM_CLASSES, taps=all_taps))
    students = {CONTROL: make_learner(args.student, NUM_CLASSES)}
    for name in terms:
        students[name] = make_student(args, name, taps[name], teacher.learner)
    settings = StepSettings(SupervisedLoss().to(device), None, device, seed=0)
    batch = TrainingBatch(pixels, labels, epoch=1.0, step=0)

    def step() -> None:
        online_step(teacher, [students[CONTROL]], batch, settings)
        teacher.update(1.0)
        students[CONTROL].update(1.0)

    def lossy(name: str) -> Callable[[], None]:
        student = students[name]
        with torch.no_grad():
            target = teacher.network(pixels)
            own = student.network(pixels)
        leaves = Activations(own.logits_BKHW.clone(), {k: v.clone() for k, v in own.taps.items()})
        for leaf in (leaves.logits_BKHW, *leaves.taps.values()):
            leaf.requires_grad_()
            given[name] += leaf.numel()
        learned = list(student.objective.parameters())
        optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True) if learned else None

        def work() -> None:
            student.objective(leaves, target, labels)[name].backward()
            if optimizer is not None:
                optimizer.step()

        return work

    def backward_again() -> None:
        activations = students[CONTROL].network(pixels)
        loss = settings.supervised(activations.logits_BKHW, labels)
        parameters = list(students[CONTROL].network.parameters())
        started = clock()
        torch.autograd.grad(loss, parameters)
        seconds["measuring"].append((clock() - started) / args.steps_per_epoch)

    given = dict.fromkeys(terms, 0)
    works = {name: lossy(name) for name in terms}
    seconds: dict[str, list[float]] = {name: [] for name in (CONTROL, *terms, "measuring")}
    for _ in range(args.rounds + 1):
        seconds[CONTROL].append(timed(step))
        for name, work in works.items():
            seconds[name] += [timed(work) for _ in range(3)]
        backward_again()
    for found in seconds.values():
        del found[: max(1, len(found) // (args.rounds + 1))]  # the first round warms up
    base = statistics.median(seconds.pop(CONTROL))
    added = {name: [t / base for t in found] for name, found in seconds.items()}
    medians = {name: statistics.median(found) for name, found in added.items()}
    dearest = max(terms, key=lambda name: medians[name])
    ratios = {
        label: spread([1 / (1 + cost) for cost in added[name]])
        for label, name in (
            ("step / step with pixel_kl", "pixel_kl"),
            ("step / step with the dearest loss", dearest),
        )
    }
    counted = {name: count(work).total / given[name] for name, work in works.items()}
    ratios |= {
        f"numbers given / operations, {name}": spread([1 / operations])
        for name, operations in counted.items()
    }
    lines = [
        f"{args.teacher} → {args.student}, {shape}",
        f"{CONTROL}: {base:.3f} s a step; each loss adds, median (range):",
    ]
    for name, cost in sorted(medians.items(), key=lambda item: item[1]):
        low, high = min(added[name]), max(added[name])
        each = f", {counted[name]:.0f} operations a number" if name in counted else ""
        lines.append(f"  {name:14} {cost:6.2%}  ({low:.2%} to {high:.2%}){each}")
    finish(args, ratios, {"step_s": base, "added": medians, "counted": counted}, lines)


if __name__ == "__main__":
    main()
