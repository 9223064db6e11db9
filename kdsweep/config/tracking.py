"""The ``tracking:`` section of a search space: where epoch reports are sent besides the ledger.

One class per tracker. The trackers themselves live in ``kdsweep/tracking``; other packages add some
by entry points of the group ``kdsweep.trackers``.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, field_validator

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.plugins import PluggedConfig, family
from kdsweep.errors import ConfigError
from kdsweep.registry import Registry


class TrackerConfig(PluggedConfig):
    """The keys of a tracker.

    ``implementation`` is its :class:`~kdsweep.tracking.base.RunWriter`.
    """

    title: ClassVar[str]
    """Its name for messages."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that must be installed, by the names that they are imported by."""
    install: ClassVar[str] = ""
    """The command that installs them."""


TRACKERS: Registry[type[TrackerConfig]] = family(
    "tracker", "kdsweep.trackers", TrackerConfig, lambda name: False
)


@TRACKERS.register("wandb")
class WandbConfig(TrackerConfig):
    """Weights & Biases.

    Attributes:
        mode: ``auto`` is online where an account is set up and offline elsewhere.
        project: Project name.
        entity: User or team; the account's default if left out.
        sweep: Whether runs that are sent online belong to a W&B sweep made from the search space.
    """

    implementation = "kdsweep.tracking.wandb_writer:WandbWriter"
    title = "Weights & Biases"

    mode: Literal["auto", "online", "offline", "off"] = "auto"
    project: str = "kdsweep"
    entity: str | None = None
    sweep: bool = True


@TRACKERS.register("tensorboard")
class TensorboardConfig(TrackerConfig):
    """TensorBoard event files in the experiment's folder."""

    implementation = "kdsweep.tracking.tensorboard:TensorboardWriter"
    title = "TensorBoard"
    packages = ("tensorboardX",)
    install = "pip install tensorboardX"


@TRACKERS.register("mlflow")
class MlflowConfig(TrackerConfig):
    """MLflow.

    Attributes:
        uri: Tracking server or database (``http://…``, ``sqlite:///FILE``); ``null`` is
            ``MLFLOW_TRACKING_URI`` if that is set, and else a database in the experiment's folder.
        experiment: Name of the MLflow experiment; ``null`` is one for each sweep, of its name.
    """

    implementation = "kdsweep.tracking.mlflow:MlflowWriter"
    title = "MLflow"
    packages = ("mlflow", "sqlalchemy", "alembic")
    install = "pip install 'kdsweep[mlflow]'"

    uri: str | None = None
    experiment: str | None = None

    @field_validator("uri")
    @classmethod
    def _is_no_folder(cls, uri: str | None) -> str | None:
        if uri is not None and (":" not in uri or uri.startswith("file:")):
            raise broken_rule(
                "MLflow no longer keeps runs in plain folders",
                allowed="http(s)://HOST, sqlite:///FILE or another database, or null",
                hint=f"sqlite:///{uri.removeprefix('file:').rstrip('/')}/mlflow.db",
            )
        return uri


def _fields() -> dict[str, Any]:
    """A field for each tracker, of which W&B is always there."""
    fields: dict[str, Any] = {}
    for name, config in TRACKERS.members().items():
        about = (config.__doc__ or "").partition("\n")[0]
        if name == "wandb":
            fields[name] = (config, Field(default_factory=config, description=about))
        else:
            absent = Field(default=None, description=f"{about} ``null`` means not used.")
            fields[name] = (config | None, absent)
    return fields


if TYPE_CHECKING:

    class _Trackers(Config):
        wandb: WandbConfig = WandbConfig()

else:
    _Trackers = create_model("_Trackers", __base__=Config, **_fields())


class TrackingConfig(_Trackers):
    """Where epoch reports are sent besides the ledger; ``{}`` is a tracker with its defaults."""

    def used(self) -> dict[str, TrackerConfig]:
        """Return the trackers that are asked for, by name."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {
            name: config
            for name, config in named
            if config is not None and not (isinstance(config, WandbConfig) and config.mode == "off")
        }

    def check_packages(self) -> None:
        """Refuse trackers whose packages are not installed.

        Raises:
            ConfigError: With the command that installs them.
        """
        for name, config in self.used().items():
            missing = [p for p in config.packages if importlib.util.find_spec(p) is None]
            if missing:
                raise ConfigError(
                    f"{config.title} needs {' and '.join(missing)}, which "
                    f"{'is' if len(missing) == 1 else 'are'} not installed",
                    path=("tracking", name),
                    hint=f"{config.install}, or take tracking.{name} out",
                )
