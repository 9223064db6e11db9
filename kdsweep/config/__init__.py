"""Jobs and search spaces: their schema, YAML in and out, overrides, and drawing.

Light on purpose: this package needs pydantic and ruamel.yaml only.
"""

from kdsweep.config.data import DataConfig
from kdsweep.config.distill import DistillConfig
from kdsweep.config.document import dump_yaml
from kdsweep.config.job import Job, distinct_data
from kdsweep.config.job_list import JobList
from kdsweep.config.loading import JobFile, load_job, read_job
from kdsweep.config.model import ModelConfig
from kdsweep.config.ranges import Scalar, Suggest
from kdsweep.config.space import Draw, Space, control_key, load_space
from kdsweep.config.sweep import ResourcesConfig, SweepConfig
from kdsweep.config.tracking import TrackingConfig
from kdsweep.config.train import TrainConfig

__all__ = [
    "DataConfig",
    "DistillConfig",
    "Draw",
    "Job",
    "JobFile",
    "JobList",
    "ModelConfig",
    "ResourcesConfig",
    "Scalar",
    "Space",
    "Suggest",
    "SweepConfig",
    "TrackingConfig",
    "TrainConfig",
    "control_key",
    "distinct_data",
    "dump_yaml",
    "load_job",
    "load_space",
    "read_job",
]
