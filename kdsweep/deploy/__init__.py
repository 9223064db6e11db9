"""What is done with a student once it is trained: load it, export it, predict with it, score it.

``load`` gives a trained or exported student as a function of a picture. Submodules are imported
where they are used: what works on ONNX files loads no torch.
"""

from kdsweep.deploy.card import Card
from kdsweep.deploy.loading import load
from kdsweep.deploy.model import DeployedModel

__all__ = ["Card", "DeployedModel", "load"]
