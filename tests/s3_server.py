"""A real S3 server on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

BUCKET = "sweeps-of-tests"


@dataclass(frozen=True)
class Server:
    """A server with one bucket.

    Attributes:
        uri: Address of the bucket.
        env: What its clients find it by.
        process: The server.
    """

    uri: str
    env: dict[str, str]
    process: subprocess.Popen[bytes]


@contextmanager
def s3_server(address: str = "127.0.0.1") -> Iterator[Server]:
    """Start the server at an address of this machine, and end it."""
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    env = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((address, port)) == 0:
                    break
            time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            make = f"import boto3; boto3.client('s3').create_bucket(Bucket={BUCKET!r})"
            subprocess.run([sys.executable, "-c", make], check=True, timeout=120)
        yield Server(f"s3://{BUCKET}", env, process)
    finally:
        process.kill()
        process.wait()
