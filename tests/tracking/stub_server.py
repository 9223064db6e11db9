"""A W&B server on the loopback that speaks as much as a run, a sweep, an agent and a sync need.

It answers in the forms that wandb's own client sends its GraphQL in (the operation's name is in the
query), takes file streams and uploads, and remembers all of it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ENTITY = "someone"


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave connections behind; anything else is a fault of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class StubServer:
    """Use as a context manager.

    Args:
        refuse: Answer everything with this status instead.
        delay: Seconds that every answer takes.

    Attributes:
        url: For ``WANDB_BASE_URL``.
        operations: Every GraphQL operation, as its name and its variables.
        streams: What came through the file stream, by run id, in order.
        files: Uploaded files by name.
        sweeps_refused: Message of the error with which a sweep is refused.
        lists_refused: Message of the error with which a list of sweeps is refused.
        keep_waiting: Seconds that the answer to a new sweep takes, which is created at once.
        commands: What the next agent heartbeats answer.
        unknown: Operations that got the answer ``{}``.
    """

    def __init__(self, *, refuse: int | None = None, delay: float = 0.0) -> None:
        self.refuse = refuse
        self.delay = delay
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.commands: list[list[dict[str, Any]]] = []
        self.unknown: list[str] = []
        self.sweeps_refused: str | None = None
        self.lists_refused: str | None = None
        self.keep_waiting = 0.0
        self.sweeps: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stub.answer(self)

            do_PUT = do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._connections: set[Any] = set()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)

    def __enter__(self) -> StubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Be gone: open connections break, new ones are refused. Twice does no harm."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def named(self, name: str) -> list[dict[str, Any]]:
        """The variables of each operation of a name."""
        return [variables for operation, variables in self.operations if operation == name]

    def history(self, run: str) -> list[dict[str, Any]]:
        """The rows of a run as the server has them after all that was sent."""
        rows: dict[int, dict[str, Any]] = {}
        for sent in self.streams.get(run, []):
            chunk = (sent.get("files") or {}).get("wandb-history.jsonl")
            if chunk:
                for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                    rows[number] = json.loads(line)
        return [rows[number] for number in sorted(rows)]

    def summary(self, run: str) -> dict[str, Any]:
        """The last summary that was sent of a run."""
        found: dict[str, Any] = {}
        for sent in self.streams.get(run, []):
            chunk = (sent.get("files") or {}).get("wandb-summary.json")
            if chunk:
                found = json.loads(chunk["content"][-1])
        return found

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self._connections.add(handler.connection)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        time.sleep(self.delay)
        path = urlsplit(handler.path).path
        status, answer = 200, {}
        if self.refuse is not None:
            status, answer = self.refuse, {"errors": [{"message": "refused"}]}
        elif path == "/graphql":
            asked = json.loads(body)
            answer = {"data": self._graphql(asked["query"], asked.get("variables") or {})}
            if self.sweeps_refused is not None and "UpsertSweep" in asked["query"]:
                answer = {"data": None, "errors": [{"message": self.sweeps_refused}]}
            if self.lists_refused is not None and "GetSweeps" in asked["query"]:
                answer = {"data": None, "errors": [{"message": self.lists_refused}]}
            if "UpsertSweep" in asked["query"]:
                time.sleep(self.keep_waiting)
        elif path.endswith("/file_stream"):
            with self.lock:
                self.streams.setdefault(path.split("/")[-2], []).append(json.loads(body))
        elif path.startswith("/upload/"):
            self.files[path.removeprefix("/upload/")] = body
        data = json.dumps(answer).encode()
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query.strip()[:40]
        with self.lock:
            self.operations.append((name, variables))
            method = getattr(self, f"_do_{name}", None)
            if method is None:
                self.unknown.append(name)
                return {}
            return dict(method(variables))

    # -- operations, by the names that wandb gives them ------------------------------------------

    def _do_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": None}
        return {"viewer": viewer}

    def _do_GetDefaultEntity(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "u1", "entity": ENTITY}}

    def _do_UpsertSweep(self, asked: dict[str, Any]) -> dict[str, Any]:
        sweep = asked.get("id") or f"sweep{len(self.sweeps) + 1}"
        self.sweeps[sweep] = asked["config"]
        project = {"id": "p1", "name": asked["projectName"], "entity": {"id": "e1", "name": ENTITY}}
        return {
            "upsertSweep": {
                "sweep": {"name": sweep, "project": project},
                "configValidationWarnings": [],
            }
        }

    def _do_GetSweeps(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One sweep a page, so that pages are turned; none before a project has one."""
        if not self.sweeps:
            return {"project": None}
        ids = list(self.sweeps)
        index = int(asked.get("cursor") or 0)
        node = {
            "__typename": "Sweep",
            "id": ids[index],
            "name": ids[index],
            "displayName": "renamed by its user",
            "method": "bayes",
            "state": "RUNNING",
            "description": None,
            "bestLoss": None,
            "config": self.sweeps[ids[index]],
            "createdAt": "2026-11-22T00:00:00",
            "updatedAt": None,
            "runCount": 0,
            "runCountExpected": None,
        }
        more = index + 1 < len(ids)
        page = {"__typename": "PageInfo", "endCursor": str(index + 1), "hasNextPage": more}
        sweeps = {"pageInfo": page, "edges": [{"node": node}]}
        return {"project": {"totalSweeps": len(ids), "sweeps": sweeps}}

    def _do_UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["name"]
        inserted = name not in self.runs
        self.runs[name] = {**self.runs.get(name, {}), **{k: v for k, v in asked.items() if v}}
        bucket = {
            "id": base64.b64encode(f"Run:{name}".encode()).decode(),
            "name": name,
            "displayName": asked.get("displayName") or name,
            "sweepName": asked.get("sweep"),
            "project": {"id": "p1", "name": asked.get("project"), "entity": {"name": ENTITY}},
            "historyLineCount": None,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _do_RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        rows = self.history(asked["name"])
        if asked["name"] not in self.runs:
            return {"model": {"id": "p1", "name": asked["project"], "bucket": None}}
        bucket = {
            "id": base64.b64encode(f"Run:{asked['name']}".encode()).decode(),
            "name": asked["name"],
            "summaryMetrics": json.dumps(self.summary(asked["name"])),
            "displayName": asked["name"],
            "logLineCount": 0,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps({}),
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {"id": "p1", "name": asked["project"], "bucket": bucket}}

    def _do_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _do_CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": n, "uploadUrl": self._upload_url(asked["run"], n)} for n in asked["files"]
        ]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _do_ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _do_CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = asked["input"]
        artifact = {"id": f"artifact-{wanted['digest']}", "state": "PENDING"}
        sequence = {"id": "s1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {**artifact, "artifactSequence": sequence}}}

    def _do_CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": {"artifactManifest": self._manifest(asked)}}

    def _do_UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(asked)}}

    def _manifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"manifest-{asked.get('digest')}"
        url = self._upload_url("artifacts", name)
        file = {"id": "f1", "name": name, "displayName": name, "uploadUrl": url}
        return {"id": "m1", "file": {**file, "uploadHeaders": []}}

    def _do_CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = [
            {
                "node": {
                    "id": "f1",
                    "name": file["name"],
                    "displayName": file["name"],
                    "storagePath": f"stored/{file['name']}",
                    "uploadUrl": self._upload_url("artifacts", file["name"]),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in asked["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _do_CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": "0"}}}

    def _upload_url(self, folder: str, name: str) -> str:
        return f"{self.url}/upload/{folder}/{name}"

    def _do_SweepWithRuns(self, asked: dict[str, Any]) -> dict[str, Any]:
        sweep = {
            "id": asked["sweep"],
            "name": asked["sweep"],
            "method": "random",
            "state": "RUNNING",
            "description": None,
            "config": self.sweeps[asked["sweep"]],
            "createdAt": "2026-11-22T00:00:00",
            "heartbeatAt": None,
            "updatedAt": None,
            "earlyStopJobRunning": False,
            "controller": None,
            "scheduler": None,
            "runs": {"edges": []},
        }
        return {"project": {"sweep": sweep}}

    def _do_CreateAgent(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent1"}}}

    def _do_Heartbeat(self, _: dict[str, Any]) -> dict[str, Any]:
        commands = self.commands.pop(0) if self.commands else []
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}
