"""Whether a Weights & Biases account is set up on this machine, found out without importing wandb.

Looks where wandb itself looks (environment, netrc, settings files) and only for the presence of a
key: its value goes nowhere.
"""

from __future__ import annotations

import configparser
import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
_OFF = ("disabled", "off")
_OFFLINE = ("offline", "dryrun")


def choose_mode(mode: str, environ: Mapping[str, str], home: Path, folder: Path) -> str:
    """``online``, ``offline`` or ``off``.

    Args:
        mode: As the search space says it. Only ``auto`` looks any further: first at what wandb's
            own ``WANDB_MODE`` and settings files say, then whether there is an account.
        environ: Environment variables.
        home: The user's home folder.
        folder: The working folder, which may have settings of its own.
    """
    if mode != "auto":
        return mode
    settings = _settings(environ, home, folder)
    wanted = environ.get("WANDB_MODE") or settings.get("mode", "")
    if wanted in _OFF:
        return "off"
    if wanted in _OFFLINE:
        return "offline"
    return "online" if _is_set_up(environ, home, settings) else "offline"


def has_account(environ: Mapping[str, str], home: Path, folder: Path) -> bool:
    """Return whether there is an account or a key; arguments as for :func:`choose_mode`."""
    return _is_set_up(environ, home, _settings(environ, home, folder))


def server_url(environ: Mapping[str, str], home: Path, folder: Path) -> str:
    """Address of the server that wandb would talk to; arguments as for :func:`choose_mode`."""
    settings = _settings(environ, home, folder)
    return environ.get("WANDB_BASE_URL") or settings.get("base_url") or f"https://{_HOSTS[0]}"


def _is_set_up(environ: Mapping[str, str], home: Path, settings: Mapping[str, str]) -> bool:
    if any(environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    if settings.get("api_key"):
        return True
    server = environ.get("WANDB_BASE_URL") or settings.get("base_url")
    hosts = [urlsplit(server).netloc] if server else list(_HOSTS)
    named = environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        try:
            entries = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError):
            continue
        if any(host in entries.hosts and entries.hosts[host][2] for host in hosts):
            return True
    return False


def _settings(environ: Mapping[str, str], home: Path, folder: Path) -> dict[str, str]:
    """The user's settings, and over them those of the working folder."""
    config = Path(environ.get("WANDB_CONFIG_DIR") or home / ".config" / "wandb")
    found: dict[str, str] = {}
    for path in (config.expanduser() / "settings", folder / "wandb" / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        found.update(parser["default"] if parser.has_section("default") else {})
    return found
