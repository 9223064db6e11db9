import pytest

from kdsweep.config import load_space
from kdsweep.ledger import Experiment
from kdsweep.tracking import Trackers, open_tracker
from kdsweep.tracking.account import choose_mode

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("mode", ["online", "offline", "off"])
def test_what_the_space_says_goes(no_account, mode):
    environ = {"WANDB_MODE": "disabled", "WANDB_API_KEY": KEY}
    assert choose_mode(mode, environ, no_account, no_account) == mode


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": ""}, "offline"),
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_IDENTITY_TOKEN_FILE": "/token"}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "off"),
        ({"WANDB_MODE": "online"}, "offline"),
    ],
)
def test_environment(no_account, environ, expected):
    assert choose_mode("auto", environ, no_account, no_account) == expected


@pytest.mark.parametrize(
    ("machine", "environ", "expected"),
    [
        ("api.wandb.ai", {}, "online"),
        ("example.org", {}, "offline"),
        ("wandb.example.org", {"WANDB_BASE_URL": "https://wandb.example.org"}, "online"),
        ("api.wandb.ai", {"WANDB_BASE_URL": "https://wandb.example.org"}, "offline"),
    ],
)
def test_netrc(no_account, machine, environ, expected):
    (no_account / ".netrc").write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
    assert choose_mode("auto", environ, no_account, no_account / "x") == expected


@pytest.mark.parametrize("text", ["machine api.wandb.ai login user", "machine x what is this"])
def test_a_netrc_without_a_key_is_no_account(no_account, text):
    (no_account / ".netrc").write_text(text)
    assert choose_mode("auto", {}, no_account, no_account) == "offline"


def test_settings_files(no_account, tmp_path):
    settings = no_account / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[default]\napi_key = {KEY}\n")
    assert choose_mode("auto", {}, no_account, tmp_path) == "online"
    # `wandb offline` writes this into the working folder; it wins over the user's settings.
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert choose_mode("auto", {}, no_account, tmp_path) == "offline"
    settings.write_text("damaged")
    assert choose_mode("auto", {}, no_account, no_account) == "offline"


def test_off_is_no_tracker_at_all(tmp_path):
    space = load_space(
        {
            "data": {"source": "roadscenes", "image_size": [32, 32]},
            "student": {"encoder": "resnet18"},
            "train": {"epochs": 1},
            "tracking": {"wandb": {"mode": "off"}},
        }
    )
    tracker = open_tracker(space, Experiment(tmp_path))
    assert isinstance(tracker, Trackers)
    assert not tracker.members
    tracker.trial(0, "a→b", {}, "search")
    tracker.epoch(0, 1, {"student/miou": 0.1})
    tracker.trial_end(0, "complete")
    tracker.close()
    assert not (tmp_path / "wandb").exists()
