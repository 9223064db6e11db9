"""A student in safetensors with its card, run by PyTorch.

Shape legend: N frames, H W image size, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from kdsweep.deploy.card import Card
from kdsweep.deploy.model import DeployedModel
from kdsweep.errors import ConfigError, ModelFileError
from kdsweep.models import SegmentationNetwork, build_network, choose_device
from kdsweep.models.build import inspect_model
from kdsweep.models.unused import unused_modules


class TorchModel(DeployedModel):
    """A student in PyTorch.

    Args:
        card: What it says of itself.
        weights: Its safetensors file.
        device: ``auto`` is CUDA where there is any, else the CPU; ``cpu``, ``cuda`` or ``cuda:1``.
        num_threads: CPU threads of this process from now on; as they are if left out.

    Attributes:
        network: The network, in evaluation mode.

    Raises:
        ModelFileError: Weights are damaged, or not those of the card's network.
        ConfigError: There is no such device.
    """

    def __init__(
        self, card: Card, weights: Path, device: str = "auto", num_threads: int | None = None
    ) -> None:
        super().__init__(card)
        self._device = choose_device(device)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.network = read_network(card, weights).to(self._device)

    @override
    @torch.inference_mode()
    def class_ids(self, images_NHWC: np.ndarray) -> np.ndarray:
        return self._forward(images_NHWC).argmax(1).to(torch.uint8).cpu().numpy()

    @override
    @torch.inference_mode()
    def logits(self, images_NHWC: np.ndarray) -> np.ndarray:
        return self._forward(images_NHWC).float().cpu().numpy()

    def _forward(self, images_NHWC: np.ndarray) -> Tensor:
        # Copied where it is read-only, which tensors cannot be.
        images = torch.from_numpy(np.require(images_NHWC, requirements=["C", "W"]))
        images = images.to(self._device)
        return self.network(images).logits_BKHW


def read_network(card: Card, weights: Path) -> SegmentationNetwork:
    """The network of a card with the weights of a file, in evaluation mode on the CPU.

    Raises:
        ModelFileError: Weights are damaged, or not those of the card's network.
    """
    model, num_classes = card.model, len(card.classes)
    try:
        # On memory-less tensors first: a card may name a network of any size.
        _compare(inspect_model(model, num_classes, card.image_size), weights)
        given = model.arch, model.encoder, num_classes
        network = build_network(*given, options=model.options, image_size=card.image_size)
        network.load_state_dict(load_file(weights))
    except ConfigError as error:
        raise ModelFileError(f"{weights.parent}: its card names no network: {error}") from None
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelFileError(
            f"{weights}: no weights of a {model.arch} with {model.encoder} and {num_classes} "
            f"classes ({reason})"
        ) from None
    network.shift_C11.copy_(255.0 * torch.tensor(card.mean).view(-1, 1, 1))
    network.scale_C11.copy_((1.0 / (255.0 * torch.tensor(card.std))).view(-1, 1, 1))
    return network.to(memory_format=torch.channels_last).eval()


def _compare(planned: SegmentationNetwork, weights: Path) -> None:
    """Compare a file's header with the network, without reading weights.

    Neither a tensor of another shape nor one that is missing is found out only once the network
    is in memory.
    """
    shapes = {name: list(tensor.shape) for name, tensor in planned.state_dict().items()}
    with safe_open(weights, framework="pt") as file:
        names = list(file.keys())
        if not names:
            raise ValueError("the file holds none")
        for name in names:
            if (found := list(file.get_slice(name).get_shape())) != shapes.get(name):
                raise ValueError(f"{name} has shape {found}, not {shapes.get(name)}")
    if missing := shapes.keys() - set(names):
        # Students ship without what their output does not depend on.
        unused = unused_modules(planned.get_submodule("model"))
        idle = tuple(f"model.{module}." for module in unused)
        if lost := sorted(name for name in missing if not name.startswith(idle)):
            raise ValueError(f"{lost[0]} is missing, and {len(lost) - 1} more")
