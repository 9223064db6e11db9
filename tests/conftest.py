"""What all tests share."""

from __future__ import annotations

import os

# Set before anything imports them: no version check over the network, no usage reports.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("WANDB_MODE", "offline")
