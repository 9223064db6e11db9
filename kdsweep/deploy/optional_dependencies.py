"""What to say where the packages of the extra ``deploy`` are missing."""

from __future__ import annotations

import importlib.util

from kdsweep.errors import ConfigError


def require_extra(*packages: str) -> None:
    """Refuse to go on without packages, by import name, that come with ``kdsweep[deploy]``.

    Raises:
        ConfigError: One is not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"this needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed",
            hint="pip install 'kdsweep[deploy]'",
        )
