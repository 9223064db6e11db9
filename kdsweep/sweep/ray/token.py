"""The token that Ray's page of workers and logs asks for."""

from __future__ import annotations

import os
from pathlib import Path

from kdsweep.errors import MachineError
from kdsweep.sweep.ray import bridge
from kdsweep.user_folders import home_folder, temporary_home


def read_token() -> str:
    """Return the token that the Ray of this user's sweeps shows, as Ray itself looks for it.

    Raises:
        MachineError: There is none on this machine.
    """
    token = os.environ.get(bridge.TOKEN)
    for path in () if token else _files():
        try:
            token = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise MachineError(f"Ray's token in {path} cannot be read: {error}") from error
        break
    if not token:
        raise MachineError(
            "there is no token of Ray on this machine\n"
            "  try:     on the machine and as the user of `kdsweep run`, which makes one"
        )
    return token


def _files() -> list[Path]:
    """Where a token may lie; only the first of them that is there counts."""
    if named := os.environ.get(bridge.TOKEN_PATH):
        return [Path(named)]
    home = home_folder()
    usual = [] if home is None else [home / bridge.HOME_TOKEN]
    return [*usual, temporary_home() / "ray_auth_token"]
