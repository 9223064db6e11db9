"""Experiments whose ledgers were written by hand, and what commands print about them."""

from rich.console import Console

from kdsweep.ledger import Experiment, Ledger


def write(parent, story, name="tiny"):
    """An experiment with a story's events, at the story's own times."""
    experiment = Experiment.create(parent, name)
    with Ledger.open(experiment.ledger) as ledger:
        for event in story.events:
            ledger.append({k: v for k, v in event.items() if k != "seq"})
    return experiment


def shown(draw, *args, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        draw(*args, console)
    return console.export_text()
