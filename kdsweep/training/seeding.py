"""Seeds for single purposes, derived from the one seed of a job."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, unrelated to the seeds of other purposes.

    Args:
        seed: Seed of the job.
        purpose: What it is for, for example ``"student", "weights"``.
    """
    text = "/".join(str(part) for part in (seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
