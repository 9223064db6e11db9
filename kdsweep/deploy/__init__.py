"""What is done with a student once it is trained: load it, export it, predict with it, score it.

``load`` gives a trained or exported student as a function of a picture. Submodules are imported
where they are used: what works on ONNX files loads no torch.
"""

import os

from kdsweep.deploy.card import Card
from kdsweep.deploy.loading import load
from kdsweep.deploy.model import DeployedModel

# Before anything imports onnxruntime, which otherwise keeps an identifier of the machine and
# reports its sessions to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Card", "DeployedModel", "load"]
