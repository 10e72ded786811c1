"""moto's S3 on loopback behind a gate that logs requests and, when told to, answers with errors."""

from __future__ import annotations

import itertools
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

_NUMBERS = itertools.count(1)


class S3Server:
    """A server with one bucket, a new one after each `reset`; what imports moto waits until then.

    Attributes:
        bucket: its name.
        log: `PUT prefix/key`, of every request below the bucket that was let through, in order.
        fails: asked of each request, `PUT prefix/key`; where it says so, 503 is the answer.
    """

    def __init__(self) -> None:
        self.bucket = ""
        self.log: list[str] = []
        self.fails: Callable[[str], bool] = lambda request: False
        self._server: Any = None

    def __enter__(self) -> S3Server:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._gate, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def storage(self) -> str:
        return f"s3://{self.bucket}/some/where"

    @property
    def puts(self) -> list[str]:
        """Return the keys that were written, in order, below the storage's prefix."""
        start = "PUT some/where/"
        return [request.removeprefix(start) for request in self.log if request.startswith(start)]

    def reset(self) -> None:
        """Make an empty bucket."""
        self.fails = lambda request: False
        self.bucket = f"bucket-{next(_NUMBERS)}"
        request = urllib.request.Request(f"{self.endpoint}/{self.bucket}", method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        self.log.clear()

    def listing(self) -> list[str]:
        """Return every key below the storage's prefix, asked of the server itself."""
        import re

        url = f"{self.endpoint}/{self.bucket}?list-type=2&prefix=some/where/"
        with urllib.request.urlopen(url, timeout=20) as answer:
            found = re.findall(r"<Key>some/where/([^<]+)</Key>", answer.read().decode())
        return sorted(found)

    def _gate(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        key = environ["PATH_INFO"].removeprefix(f"/{self.bucket}").strip("/")
        request = f"{environ['REQUEST_METHOD']} {key}"
        if self.fails(request):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"busy"]
        self.log.append(request)
        answer: Iterable[bytes] = self._app(environ, start)
        return answer
