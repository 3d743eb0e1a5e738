"""A Hugging Face hub on loopback: as much of its HTTP interface as uploading and loading of model repositories need.

Files that the hub keeps in large-file storage (``*.safetensors``) go through it here too.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Repositories by name: files by path; and every request that was not understood."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.stored: dict[str, bytes] = {}  # large files by SHA-256
        self.cards: list[str] = []  # model cards that were sent for validation
        self.unknown: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit_of(files: dict[str, bytes]) -> str:
    """The hash of a repository's content, as long as one of git."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, data in sorted(files.items()):
        digest.update(path.encode() + b"\0" + data)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def refuse(self, code: str = "RepoNotFound") -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self.answer({"error": "not found"}, 404, X_Error_Code=code)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)", path):
            self.send_file(*found.groups())
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/[^/]+/?", path):
            files = self.server.repositories.get(found[1], {})
            self.answer(
                [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
            )
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/[^/]+)?", path):
            files = self.server.repositories.get(found[1])
            if files is None:
                self.refuse()
                return
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": found[1], "modelId": found[1], "sha": commit_of(files), "siblings": siblings})
        else:
            self.refuse()

    do_HEAD = do_GET

    def send_file(self, repository: str, name: str) -> None:
        files = self.server.repositories.get(repository)
        if files is None:
            self.answer({}, 404, X_Error_Code="RepoNotFound")
        elif name not in files:
            self.answer({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit_of(files))
        else:
            tag = hashlib.sha256(files[name]).hexdigest()
            self.answer(files[name], X_Repo_Commit=commit_of(files), ETag=f'"{tag}"')

    def do_POST(self) -> None:
        path, data = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/repos/create":
            asked = json.loads(data)
            owner = asked.get("organization") or "someone"
            name = f"{owner}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.answer({"url": f"{self.server.address}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self.server.cards.append(json.loads(data)["content"])
            self.answer({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", path):
            names = [each["path"] for each in json.loads(data)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            self.answer(
                {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]}
            )
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = []
            for each in json.loads(data)["objects"]:
                upload = {"href": f"{self.server.address}/large/{each['oid']}", "header": {}}
                objects.append({"oid": each["oid"], "size": each["size"], "actions": {"upload": upload}})
            self.answer({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self.commit(found[1], [json.loads(line) for line in data.splitlines()])
        else:
            self.refuse()

    def do_PUT(self) -> None:
        data = self.body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.stored[oid] = data
        self.answer({})

    def commit(self, repository: str, operations: list[dict[str, Any]]) -> None:
        files = self.server.repositories[repository]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
        oid = commit_of(files)
        self.answer(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.server.address}/{repository}/commit/{oid}"}
        )
