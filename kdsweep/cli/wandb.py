"""Commands for Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdsweep.cli.app import app
from kdsweep.cli.options import LATEST_EXPERIMENT, NO_SPACE, Data, Experiment, Quiet, Set, SpaceFile
from kdsweep.errors import ConfigError, shown

if TYPE_CHECKING:
    from kdsweep.config.sweep import SweepConfig

# Keys of the section `sweep:` that a W&B sweep has words for; its draws have no seed to lose.
_EXPRESSED = {"trials", "metric", "sampler", "scheduler", "grace_period", "reduction_factor"}
_EXPRESSED |= {"seed"}
# Values that ask for nothing.
_NOTHING = {"controls": "none", "students_per_teacher": 1, "try_first": []}

wandb_app = typer.Typer(
    name="wandb",
    help="Weights & Biases: hand a space to its agents, send runs later.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(wandb_app)


@wandb_app.command("export")
def wandb_export(space: SpaceFile = NO_SPACE, data: Data = None, set_: Set = None) -> None:
    """Print a space as a W&B sweep, for `wandb sweep` and `wandb agent`.

    What W&B's agents cannot do (controls, cohorts, budgets) is named in comments at its head.
    """
    from kdsweep.config import dump_yaml, load_space
    from kdsweep.config.wandb_sweep import to_wandb_agents

    loaded = load_space(space, set_ or (), data or ())
    try:
        config = to_wandb_agents(loaded)
    except ConfigError as error:
        raise loaded.locate(error) from None
    for line in _left_out(loaded.sweep):
        print(f"# {line}")
    print(dump_yaml(config), end="")


def _left_out(sweep: SweepConfig) -> list[str]:
    """Return what a space asks for that the exported sweep does not do."""
    lost = {
        key: value
        for key, value in sweep.model_dump(mode="json").items()
        if key not in _EXPRESSED
        and value != _NOTHING.get(key)
        and (key in _NOTHING or key in sweep.model_fields_set)
    }
    if not isinstance(sweep.metric, str):
        lost["metric"] = list(sweep.metric)[1:]
    if not lost:
        return []
    return [
        "Left out, because W&B's agents cannot do it (kdsweep run can):",
        *(
            f"  sweep.{key}: {value if isinstance(value, str) else shown(value)}"
            for key, value in lost.items()
        ),
    ]


@wandb_app.command("sync")
def wandb_sync(experiment: Experiment = LATEST_EXPERIMENT, quiet: Quiet = False) -> None:
    """Send the runs of an experiment that are not at W&B yet; what was sent is not sent again."""
    from kdsweep.tracking.sync import open_runs, sync_runs

    def say(path: Path, number: int, total: int) -> None:
        if not quiet:
            print(f"{number}/{total}  {path.name}", flush=True)

    synced = sync_runs(open_runs(experiment), say)
    if quiet:
        return
    if not synced.sent and not synced.num_before:
        print(
            f"{experiment}: no W&B runs are here; tracking.wandb.mode: offline or online makes some"
        )
    else:
        num_sent = len(synced.sent)
        runs = "run" if num_sent == 1 else "runs"
        print(f"{num_sent} {runs} sent, {synced.num_before} had been sent before")
