"""All of Ray that Ray does not promise to keep: its variables, private names and files.

Ray moves such things between two releases without a word. So no other file knows them, and
``tests/sweep/test_bridge.py`` looks for each of them in the Ray that is installed, and names the
one that is not where it was.

Ray reads its variables when it is imported, so nothing here imports it before it is called.
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.user_folders import home_folder

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

# -- variables that Ray and Tune read when they are imported, Ray's daemons start or a run begins --

QUIET = {
    # Trials have an environment of their own, so that the workers that Ray would start at once, one
    # a core, would serve none of them.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray would pack the working directory of who uses `uv run`, data and all.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}
# Ray's own default is 15, which leaves the training what other work on the machine leaves over.
# It waits half a minute for its own processes, which is too short on a machine under load.
# It looks for a minute for a GCS that has died, which on one machine never comes back.
OWN_CLUSTER = {
    "RAY_worker_niceness": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}
# "0" makes Ray listen on the loopback interface only, "1" on the machine's addresses.
LISTEN = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"  # trials that Tune creates ahead of the machines

ADDRESS = "RAY_ADDRESS"
TEMP = "RAY_TMPDIR"
TOKEN_MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"

# What Ray's log has where a token is missing or wrong.
ASKS_FOR_TOKEN = "InvalidAuthToken"

# -- files ----------------------------------------------------------------------------------------

# Below the home folder; Ray makes it unless a variable names a token.
HOME_TOKEN = Path(".ray") / "auth_token"
# The longest path of a socket that Ray binds, below its temporary folder: a time, the process id
# (at most 2^22) and the name of the store's socket.
LONGEST_SOCKET = "session_2026-11-29_23-59-59_999999_4194304/sockets/plasma_store"

_NAMESPACE = b"kdsweep"


@contextlib.contextmanager
def environment(**more: str) -> Iterator[None]:
    """Set the variables that keep Ray quiet, and ``more``; put the old ones back at the end."""
    wanted = {**QUIET, **more}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def listening(*, everywhere: bool) -> Iterator[None]:
    """Choose where a Ray that is started meanwhile listens.

    Args:
        everywhere: Whether on all addresses of the machine; else on 127.0.0.1 alone.
    """
    with environment(**{LISTEN: str(int(everywhere))}):
        _decide_address(everywhere)
        try:
            yield
        finally:
            _decide_address(sys.platform not in ("darwin", "win32"))


def _decide_address(everywhere: bool) -> None:
    """Set what Ray makes of its variable; it reads that only once, when it is imported."""
    constants: Any = sys.modules.get("ray._private.ray_constants")
    if constants is not None:
        constants.ENABLE_RAY_CLUSTER = everywhere


def token_place() -> str | None:
    """Return where Ray's token is on this machine; ``None`` if there is none."""
    for name in (TOKEN, TOKEN_PATH):
        if os.environ.get(name):
            return name
    home = home_folder()
    path = None if home is None else home / HOME_TOKEN
    return str(path) if path is not None and path.is_file() else None


def token_mode() -> dict[str, str]:
    """Return the variable that lets a client show its token; nothing where there is none."""
    if token_place() is None or TOKEN_MODE in os.environ:
        return {}
    return {TOKEN_MODE: "token"}


def asks_for_token(dashboard: str) -> bool:
    """Return whether the dashboard at an address shows nothing without Ray's token."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{dashboard}/api/version", timeout=3):
            return False
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Let Tune start without counting callbacks for its telemetry, which is off.

    It imports MLflow and wandb to know theirs by name: a second of CPU time.
    """
    usage: Any = import_module("ray.air._internal.usage")
    with _replaced(usage, "tag_callbacks", lambda callbacks: False):
        yield


@contextlib.contextmanager
def going_on_without_memory() -> Iterator[None]:
    """Let Tune take a worker that Ray has ended for lack of memory as one that has died.

    It knows no such error, and would break off with all that runs.
    """
    manager: Any = import_module("ray.air.execution._internal.actor_manager").RayActorManager
    exceptions: Any = import_module("ray.exceptions")
    before = manager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, exceptions.OutOfMemoryError):
            exception = exceptions.RayActorError(error_msg=str(exception))
        before(self, tracked_actor_task, exception)

    with _replaced(manager, "_actor_task_failed", failed):
        yield


@contextlib.contextmanager
def keeping_keys() -> Iterator[None]:
    """Let Tune hand no AWS keys to its workers: they need none, and Ray's logs would have them."""
    cache: Any = import_module("ray.tune.execution.class_cache")
    names = cache.ENV_VARS_TO_PROPAGATE
    kept = {name for name in names if not name.startswith("AWS_")}
    with _replaced(cache, "ENV_VARS_TO_PROPAGATE", kept):
        yield


@contextlib.contextmanager
def saying_nothing() -> Iterator[None]:
    """Keep Ray's own words on dead workers off standard output, where a sweep's JSON lines go.

    Ray prints them whatever ``log_to_driver`` says. The sweep tells of each crash itself.
    """
    worker: Any = import_module("ray._private.worker")
    with _replaced(worker, "print_to_stdstream", lambda data, ignore_prefix: None):
        yield


def start_options(temp: Path, spill: Path | None) -> dict[str, Any]:
    """Return what ``ray.init`` is told to start a Ray that writes to these folders only.

    Args:
        temp: Its temporary folder.
        spill: Folder for objects that do not fit in memory; Ray's own, below ``temp``, if ``None``.
    """
    options = {"address": "local", "_temp_dir": str(temp)}
    if spill is not None:
        options["object_spilling_directory"] = str(spill)
    return options


def session_folder() -> Path:
    """Return the folder of the Ray that this process is connected to."""
    import ray

    return Path(ray._private.worker._global_node.get_session_dir_path())


def log_files(temp: Path) -> list[Path]:
    """Return the logs of Ray's processes in its temporary folder."""
    return sorted(temp.glob("session_2*/logs/*"))


def kill_processes(temp: Path) -> None:
    """Kill Ray's processes; their command lines name their temporary folder."""
    import ray  # noqa: F401

    # Ray brings it along, in a folder that is on the path once Ray is imported.
    psutil = import_module("psutil")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(
                str(temp) in argument for argument in process.cmdline()
            ):
                process.kill()


# -- the cluster's key-value store, which all of its machines read alike ---------------------------


def put_text(key: str, text: str) -> None:
    """Keep a text; it replaces what was kept before."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key.encode(), text.encode(), overwrite=True, namespace=_NAMESPACE)


def get_text(key: str) -> str | None:
    """Return the text that is kept; ``None`` if there is none."""
    from ray.experimental.internal_kv import _internal_kv_get

    kept = _internal_kv_get(key.encode(), namespace=_NAMESPACE)
    return None if kept is None else kept.decode()


def delete_text(key: str) -> None:
    """Keep the text no longer."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(key.encode(), namespace=_NAMESPACE)


# -- workers and Tune's trials --------------------------------------------------------------------


def elsewhere_than(nodes: Sequence[str]) -> dict[str, str]:
    """Return the label selector of a bundle that keeps it off machines of these ids."""
    return {"ray.io/node-id": f"!in({','.join(nodes)})"}


def own_gpus() -> list[str]:
    """Return the GPUs that Ray has given to this worker."""
    import ray

    return [str(gpu) for gpu in ray.get_gpu_ids()]


def own_node() -> str:
    """Return the id of the machine that this worker is on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def num_gpus_here() -> int:
    """Return how many GPUs of this machine Ray would hand out, without starting it."""
    accelerators: Any = import_module("ray._private.accelerators")
    manager = accelerators.get_accelerator_manager_for_resource("GPU")
    count = int(manager.get_current_node_num_accelerators())
    visible = manager.get_current_process_visible_accelerator_ids()
    return count if visible is None else min(count, len(visible))


def name_process(title: str) -> None:
    """Name this worker in process lists, in nvidia-smi and in the dashboard's list of workers."""
    import ray

    with contextlib.suppress(AttributeError):  # a name is no reason to stop training
        ray._raylet.setproctitle(f"ray::{title}")


def is_taken_over(trial: Trial) -> bool:
    """Return whether a worker that is used again has yet to begin with a trial."""
    return trial.status == trial.PENDING and trial.temporary_state.ray_actor is not None


def kill_worker(trial: Trial) -> None:
    """End the process in which a trial runs, one that is stopped (SIGSTOP) too.

    Its machine's raylet asks it to end, and sends SIGKILL five seconds later.
    """
    import ray

    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


def error_of(trial: Trial) -> Exception | None:
    """Return what ended a trial; ``None`` if Tune does not say.

    Its own ``get_error()`` is empty until later. The pickle was written by this process.
    """
    import ray

    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    with open(path, "rb") as file:
        error: Exception = ray.cloudpickle.load(file)
    return error


def drop_statistics(trial: Trial) -> None:
    """Free what Tune keeps of each number that a trial has ever sent."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
