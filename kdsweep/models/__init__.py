"""Segmentation networks and their feature taps."""

from kdsweep.models.architectures import architecture_names
from kdsweep.models.build import build_network, inspect_model, inspect_network, inspect_weights
from kdsweep.models.devices import choose_device
from kdsweep.models.network import Activations, SegmentationNetwork, check_taps
from kdsweep.models.pretrained import are_here, fetch_weights

__all__ = [
    "Activations",
    "SegmentationNetwork",
    "architecture_names",
    "are_here",
    "build_network",
    "check_taps",
    "choose_device",
    "fetch_weights",
    "inspect_model",
    "inspect_network",
    "inspect_weights",
]
