"""A loopback server that answers what `datasets` asks of a hub, for one data set of parquet."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REVISION = "a" * 40
DATASET = "own/nli"


def _handler(root: Path) -> type[http.server.BaseHTTPRequestHandler]:
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = self.rfile.read(length)
            path, _, query = self.path.partition("?")
            base = f"/api/datasets/{DATASET}"
            if path in (base, f"{base}/revision/{REVISION}"):
                siblings = [{"rfilename": name} for name in files]
                self.reply({"id": DATASET, "sha": REVISION, "siblings": siblings, "tags": []})
            elif path.startswith(f"{base}/revision/"):
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith(f"{base}/tree/{REVISION}"):
                folder = path.removeprefix(f"{base}/tree/{REVISION}").strip("/")
                prefix = f"{folder}/" if folder else ""
                below = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
                if not below:
                    self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                    return
                folders = sorted({name.partition("/")[0] for name in below if "/" in name})
                shown = below if "recursive=true" in query.lower() else [
                    name for name in below if "/" not in name
                ]  # fmt: skip
                found = [self.entry(prefix + name) for name in shown]
                found += [{"type": "directory", "path": prefix + n, "size": 0, "oid": "2" * 40}
                          for n in folders]  # fmt: skip
                self.reply(found)
            elif path.startswith(f"{base}/paths-info/"):
                wanted = json.loads(asked).get("paths", [])
                self.reply([self.entry(name) for name in wanted if name in files])
            elif path.startswith(f"/datasets/{DATASET}/resolve/{REVISION}/"):
                name = path.removeprefix(f"/datasets/{DATASET}/resolve/{REVISION}/")
                if name not in files:
                    self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
                    return
                tag = hashlib.sha256(files[name]).hexdigest()
                self.send(200, files[name], {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION})
            else:
                self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_GET = do_HEAD = do_POST = answer

        def entry(self, name: str) -> dict[str, object]:
            size = len(files[name])
            return {"type": "file", "path": name, "size": size, "oid": "1" * 40}

        def reply(self, content: object) -> None:
            self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the files below `root` as the data set `own/nli`; yield the endpoint."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(root))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
