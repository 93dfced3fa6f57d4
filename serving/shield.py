"""Around the application: how many requests there may be, how large and how slow one may be, and headers of safety."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import Problem, answer
from serving.settings import Limits

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
# Swagger UI draws its pictures by style attributes.
DOCS_POLICY = HEADERS["content-security-policy"].replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")


class Shield:
    """ASGI middleware. A body is counted as it comes in, so one that does not say its length is stopped as well."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.open = 0  # requests that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self.app(scope, receive, send)
            return
        if self.open == self.limits.requests:
            await answer(Problem(503, "Too much to do", "Send it again later.", Retry_After="5"))(scope, receive, send)
            return
        self.open += 1
        try:
            await self._guarded(scope, receive, send)
        finally:
            self.open -= 1

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self.limits.body_mb << 20
        headers = dict(scope["headers"])
        began, size, started = time.monotonic(), 0, False
        reading = b"content-length" in headers or b"transfer-encoding" in headers
        refusal: Problem | None = None
        too_large = Problem(413, "Too large", f"A request may have {self.limits.body_mb} MB. Send it in several.")
        too_slow = Problem(
            408, "Too slow", f"The request did not arrive within {self.limits.upload_seconds:g} seconds."
        )

        async def counted() -> Message:
            nonlocal size, refusal, reading
            left = self.limits.upload_seconds - (time.monotonic() - began)
            try:
                message = await (asyncio.wait_for(receive(), max(left, 0.01)) if reading else receive())
            except TimeoutError:
                refusal = too_slow
                raise _Refused from None
            reading = message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > most:
                refusal = too_large
                raise _Refused
            return message

        async def with_headers(message: Message) -> None:
            nonlocal started
            if refusal is not None and not started:
                return  # what the application makes of a body that was cut off
            if message["type"] == "http.response.start":
                started = True
                policy = {"content-security-policy": DOCS_POLICY} if scope["path"] == "/docs" else {}
                given = {name.lower() for name, _ in message["headers"]}
                more = {k.encode(): v.encode() for k, v in (HEADERS | policy).items()}
                message["headers"] = [*message["headers"], *((k, v) for k, v in more.items() if k not in given)]
            await send(message)

        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            await answer(too_large)(scope, receive, with_headers)
            return
        try:
            await self.app(scope, counted, with_headers)
        except Exception:
            if refusal is None or started:
                raise
        if refusal is not None and not started:
            told, refusal = refusal, None
            await answer(told)(scope, receive, with_headers)


class _Refused(Exception):
    """Ends the reading of a body."""
