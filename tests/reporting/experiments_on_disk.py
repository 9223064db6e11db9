"""Experiments whose ledgers were written by hand, and what commands print about them."""

from plain_events import typed, write_plain
from rich.console import Console

from kdsweep.ledger import Experiment
from kdsweep.reporting import results_from_events


def write(parent, story, name="tiny"):
    """An experiment with a story's events, at the story's own times."""
    experiment = Experiment.create(parent, name)
    write_plain(experiment.ledger, story.events)
    return experiment


def results_of(events, **options):
    """The results that events of plain JSON amount to."""
    return results_from_events(typed(events), **options)


def shown(draw, *args, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        draw(*args, console)
    return console.export_text()
