"""Jobs and search spaces: their schema, YAML in and out, overrides, and drawing.

Light on purpose: this package needs pydantic and ruamel.yaml only.
"""

from kdsweep.spec.data import DataSpec
from kdsweep.spec.distill import DistillSpec
from kdsweep.spec.document import dump_yaml
from kdsweep.spec.job import Job, distinct_data
from kdsweep.spec.job_list import JobList
from kdsweep.spec.loading import JobFile, load_job, read_job
from kdsweep.spec.model import ModelSpec
from kdsweep.spec.ranges import Scalar, Suggest
from kdsweep.spec.space import Draw, Space, control_key, load_space
from kdsweep.spec.sweep import ResourcesSpec, SweepSpec
from kdsweep.spec.tracking import TrackingSpec
from kdsweep.spec.train import TrainSpec

__all__ = [
    "DataSpec",
    "DistillSpec",
    "Draw",
    "Job",
    "JobFile",
    "JobList",
    "ModelSpec",
    "ResourcesSpec",
    "Scalar",
    "Space",
    "Suggest",
    "SweepSpec",
    "TrackingSpec",
    "TrainSpec",
    "control_key",
    "distinct_data",
    "dump_yaml",
    "load_job",
    "load_space",
    "read_job",
]
