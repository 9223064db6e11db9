"""kdsweep: small, accurate road-scene segmentation networks by online knowledge distillation."""

__version__ = "0.1.0"
