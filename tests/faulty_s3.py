"""A real S3 server on this machine (moto's) with a gate before it, at which failures are injected."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class FaultyS3:
    """Listens on a free port of 127.0.0.1.

    `fault(request)`, a WSGI environment, says what becomes of a request: None, it is answered; an HTTP status, it is
    refused with this; "drop", the connection ends without an answer. `delay`: seconds that every answer takes longer.
    `reads` counts GETs by path, `refused` what was refused or dropped.
    """

    def __init__(self) -> None:
        self.fault: Callable[[dict[str, Any]], int | str | None] = lambda request: None
        self.delay = 0.0
        self.reads: Counter[str] = Counter()
        self.refused = 0
        self.lock = threading.Lock()
        self.backend = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if self.delay:
            time.sleep(self.delay)
        status = self.fault(environ)
        with self.lock:
            self.refused += status is not None
            self.reads[path] += method == "GET" and status is None
        if status is not None:
            environ["wsgi.input"].read(
                int(environ.get("CONTENT_LENGTH") or 0)
            )  # a refusal before the upload's end looks like a broken connection
            if status == "drop":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)  # whatever is written then is lost
            body = b"" if method == "HEAD" else SLOW_DOWN
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Connection", "close")]
            start_response(f"{500 if status == 'drop' else status} Refused", headers)
            return [body]
        return self.backend(environ, start_response)

    def environment(self) -> dict[str, str]:
        """What a program needs to come here, as in docs/scale.md."""
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        return keys | {"AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT": self.url, "AWS_ALLOW_HTTP": "true"}

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
