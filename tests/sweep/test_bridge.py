"""Whether the installed Ray still has what ``bridge.py`` takes of it: a word for each thing."""

import inspect
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray._private import services
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.experimental import internal_kv
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from kdsweep.sweep.ray import bridge

VARIABLES = [
    *bridge.QUIET,
    *bridge.OWN_CLUSTER,
    bridge.LISTEN,
    bridge.MAX_PENDING,
    bridge.ADDRESS,
    bridge.TEMP,
    bridge.TOKEN_MODE,
    bridge.TOKEN,
    bridge.TOKEN_PATH,
]


def check(found, thing):
    """Fail with the one line that says what to look for in ``bridge.py``."""
    if not found:
        pytest.fail(f"Ray {ray.__version__} has moved: {thing}", pytrace=False)


@pytest.fixture(scope="module")
def code():
    """All that Ray can have a variable's name in: Python files, and the programs in C++."""
    root = Path(ray.__file__).parent
    files = [root / "_raylet.so", root / "core" / "src" / "ray" / "raylet" / "raylet"]
    for folder in ("_common", "_private", "air", "train", "tune"):
        files += (root / folder).rglob("*.py")
    return [file.read_bytes() for file in files if file.exists()]


@pytest.mark.parametrize("variable", VARIABLES)
def test_variables(variable, code):
    # Settings of the daemons have their names without the first word.
    names = [variable.encode()]
    if not variable.isupper():
        names.append(b"\0" + variable.removeprefix("RAY_").encode() + b"\0")
    check(any(name in text for name in names for text in code), f"the variable {variable}")


def test_options_of_the_start(tmp_path):
    known = inspect.getsource(ray.init)
    for option in bridge.start_options(tmp_path, tmp_path):
        check(f'"{option}"' in known or f"    {option}:" in known, f"ray.init({option}=…)")


def test_the_address_follows_the_variable():
    constants = sys.modules["ray._private.ray_constants"]
    check(constants.ENABLE_RAY_CLUSTERS_ENV_VAR == bridge.LISTEN, "the variable of its address")
    before = services.get_node_ip_address()
    with bridge.listening(everywhere=False):
        check(services.get_node_ip_address() == "127.0.0.1", "ENABLE_RAY_CLUSTER, for its address")
    with bridge.listening(everywhere=True):
        assert services.get_node_ip_address() == before


def test_words_on_dead_workers():
    worker = sys.modules["ray._private.worker"]
    printing = getattr(worker, "print_to_stdstream", None)
    said = inspect.getsource(worker.listen_error_messages)
    check(printing and "print_to_stdstream(" in said, "how it prints that a worker has died")
    with bridge.saying_nothing():
        try:
            inspect.signature(worker.print_to_stdstream).bind({}, ignore_prefix=False)
        except TypeError as error:
            check(False, f"how it prints that a worker has died ({error})")
    assert worker.print_to_stdstream is printing


def test_key_value_store():
    for name, arguments in (
        ("put", {"value": b"", "overwrite": True}),
        ("get", {}),
        ("del", {}),
    ):
        function = getattr(internal_kv, f"_internal_kv_{name}", None)
        check(function is not None, f"the key-value store ({name})")
        try:
            inspect.signature(function).bind(b"key", namespace=b"", **arguments)
        except TypeError as error:
            check(False, f"the key-value store ({name}: {error})")


def test_gpus():
    try:
        check(bridge.num_gpus_here() >= 0, "the number of GPUs")
    except (ImportError, AttributeError) as error:
        check(False, f"the number of GPUs ({error})")


def test_process_title():
    script = (
        "from kdsweep.sweep.ray import bridge\n"
        "bridge.name_process('0007 a trial')\n"
        "print(open('/proc/self/cmdline').read())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    check("ray::0007 a trial" in done.stdout, "the process title")


def test_error_file(tmp_path):
    check(hasattr(Trial, "pickled_error_file"), "a trial's error file")

    class Failed:
        pickled_error_file = str(tmp_path / "error.pkl")

    assert bridge.error_of(Failed) is None
    Path(Failed.pickled_error_file).write_bytes(pickle.dumps(RayActorError(error_msg="it died")))
    assert isinstance(bridge.error_of(Failed), RayActorError)


def test_a_worker_that_ray_has_ended_for_lack_of_memory_has_died():
    told = []
    failed = getattr(RayActorManager, "_actor_task_failed", None)
    check(failed, "what Tune does with a worker that has failed")
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append(error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with bridge.going_on_without_memory():
        RayActorManager._actor_task_failed(
            manager, tracked_actor_task=task, exception=OutOfMemoryError("low on memory")
        )
    assert RayActorManager._actor_task_failed is failed
    (error,) = told
    check(isinstance(error, RayActorError) and str(error) == "low on memory", "its error")


def test_no_worker_is_handed_a_key():
    handed = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", ())
    check("AWS_SECRET_ACCESS_KEY" in handed, "the variables that Tune hands to its workers")
    with bridge.keeping_keys():
        assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if "AWS" in name]
    assert class_cache.ENV_VARS_TO_PROPAGATE is handed


def test_workers_of_trials():
    state = getattr(Trial("none", stub=True), "temporary_state", None)
    check(hasattr(state, "ray_actor"), "the actor of a trial")


def test_statistics():
    trial = Trial("none", stub=True)
    trial.update_last_result({"training_iteration": 1, "loss": 0.5})
    kept = getattr(trial, "run_metadata", None)
    for name in ("metric_analysis", "metric_n_steps"):
        check(getattr(kept, name, None), f"a trial's statistics ({name})")
    bridge.drop_statistics(trial)
    assert not kept.metric_analysis
    assert not kept.metric_n_steps


COUNTED = """
import sys
from ray import tune
from kdsweep.sweep.ray import bridge

class Callback(tune.Callback):
    def setup(self, **info):
        raise KeyboardInterrupt  # all of Tune's own preparations are over

with bridge.environment(), bridge.uncounted():
    try:
        tune.Tuner(
            lambda config: None,
            run_config=tune.RunConfig(storage_path=sys.argv[1], verbose=0, callbacks=[Callback()]),
        ).fit()
    except KeyboardInterrupt:
        print({"mlflow", "wandb"} & set(sys.modules))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_callbacks_are_not_counted(tmp_path):
    script = [sys.executable, "-c", COUNTED, str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    check(done.stdout.strip() == "set()", f"the count of callbacks\n{done.stdout}{done.stderr}")


RUNNING = """
import json, socket
from pathlib import Path
from kdsweep.sweep.machine import check_machine
from kdsweep.sweep.ray import bridge, cluster
from kdsweep.user_folders import home_folder

machine = check_machine(Path("."))
found = {}
with bridge.environment(), cluster.start(machine, dashboard=False) as joined:
    import psutil

    bridge.put_text("key", "first")
    bridge.put_text("key", "second")
    found["the key-value store"] = bridge.get_text("key") == "second"
    bridge.delete_text("key")
    found["the key-value store (no key)"] = bridge.get_text("key") is None
    sockets = [p for p in joined.scratch.rglob("*") if p.is_socket()]
    longest = max(len(str(p.relative_to(joined.scratch))) for p in sockets) if sockets else 999
    found["the paths of sockets"] = longest <= len(bridge.LONGEST_SOCKET)
    found["the files of logs"] = bool(bridge.log_files(joined.scratch))
    token = machine.variables.get(bridge.TOKEN_PATH) or home_folder() / bridge.HOME_TOKEN
    found["the token's file"] = Path(token).is_file()
    names = " ".join(word for p in psutil.Process().children() for word in p.cmdline())
    found["the folder in command lines"] = str(joined.scratch) in names
print(json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_running_ray(tmp_path, monkeypatch):
    for name in (bridge.TOKEN_MODE, bridge.TOKEN, bridge.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, "-c", RUNNING], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for thing, found in json.loads(done.stdout).items():
        check(found, thing)


def test_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("TUNE_RESULT_BUFFER_LENGTH", raising=False)
    with bridge.environment(TUNE_MAX_PENDING_TRIALS_PG="3"):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["TUNE_RESULT_BUFFER_LENGTH"] == "1"
        assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "3"
    assert "TUNE_MAX_PENDING_TRIALS_PG" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert "TUNE_RESULT_BUFFER_LENGTH" not in os.environ
