"""Who may do what: keys for programs, sessions for pages, and on one's own machine neither.

A key is shown once and kept as a hash; it is 256 random bits, so a plain SHA-256 is enough. A session is a cookie that
no script can read; what changes anything from a page carries the session's token, too, so that no foreign page can do
it in the reader's name.
"""

from __future__ import annotations

import getpass
import hashlib
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.security import APIKeyHeader

from pusa.errors import UserError
from serving.database import Database
from serving.problems import Problem

Role = Literal["reader", "reviewer", "admin"]
ROLES = get_args(Role)  # each may do what those before it may
COOKIE = "pusa_session"
SESSION_HOURS = 12.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")

bearer = APIKeyHeader(
    name="Authorization", scheme_name="key", auto_error=False, description="Bearer pusa_..., made by `pusa keys add`"
)


@dataclass(frozen=True)
class Who:
    """Who asks. `csrf`: the token of the session, "" where a program asks by key."""

    name: str
    role: Role
    csrf: str = ""
    leaves: bool = False  # has a session to end

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """Keys and sessions in the server's database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, name: str, role: str) -> str:
        """A new key, which is kept nowhere. Raises UserError for an unknown role, or a name that has a key."""
        if role not in ROLES:
            raise UserError(f"{role!r} is no role. Expected one of {', '.join(ROLES)}.")
        if not name.strip() or len(name) > 100:
            raise UserError("A key needs the name of who will use it: decisions are signed with it.")
        secret = f"pusa_{secrets.token_urlsafe(32)}"
        sql = "INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?, NULL)"
        if not self.database.write(sql, name.strip(), role, _digest(secret), time.time()):
            raise UserError(
                f"There was a key for {name} before. Give another name, so that decisions can be told apart."
            )
        return secret

    def revoke(self, name: str) -> None:
        """The key and its sessions hold no longer. Raises UserError where there is none."""
        sql = "UPDATE keys SET revoked=? WHERE name=? AND revoked IS NULL"
        if not self.database.write(sql, time.time(), name):
            raise UserError(f"There is no key for {name} that holds. `pusa keys list` has them.")

    def all(self) -> list[tuple[str, Role, float, float | None]]:
        """Name, role, when made and when revoked of each key."""
        return [(r["name"], r["role"], r["made"], r["revoked"]) for r in self.database.rows("SELECT * FROM keys")]

    def of(self, secret: str) -> Who | None:
        """Whose key it is."""
        found = self.database.rows("SELECT * FROM keys WHERE digest=? AND revoked IS NULL", _digest(secret))
        return Who(found[0]["name"], found[0]["role"]) if found else None

    def begin_session(self, name: str) -> str:
        """A cookie for who has a key."""
        secret = secrets.token_urlsafe(32)
        values = _digest(secret), name, secrets.token_urlsafe(16), time.time() + SESSION_HOURS * 3600
        self.database.write("DELETE FROM sessions WHERE expires < ?", time.time())
        self.database.write("INSERT INTO sessions VALUES (?, ?, ?, ?)", *values)
        return secret

    def end_session(self, secret: str) -> None:
        self.database.write("DELETE FROM sessions WHERE digest=?", _digest(secret))

    def of_session(self, secret: str) -> Who | None:
        """Whose session it is; None where it has ended, or the key behind it has."""
        sql = ("SELECT s.name, s.csrf, k.role FROM sessions s JOIN keys k ON k.name = s.name"
               " WHERE s.digest=? AND s.expires > ? AND k.revoked IS NULL")  # fmt: skip
        found = self.database.rows(sql, _digest(secret), time.time())
        return Who(found[0]["name"], found[0]["role"], found[0]["csrf"], True) if found else None


class Guard:
    """Finds out who asks."""

    def __init__(self, keys: Keys, access: str) -> None:
        self.keys, self.access = keys, access
        self.csrf = secrets.token_urlsafe(16)  # of all who are let in without a key

    def who(self, request: Request) -> Who | None:
        """None: nobody that is known. Raises Problem for a key that does not hold."""
        if self.access == "open":
            return self._neighbour(request)
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            found = self.keys.of(secret.strip())
            if found is None:
                raise Problem(
                    401, "Unknown key", "This key was never given out, or was revoked.", WWW_Authenticate="Bearer"
                )
            return found
        cookie = request.cookies.get(COOKIE)
        return self.keys.of_session(cookie) if cookie else None

    def _neighbour(self, request: Request) -> Who:
        """Whoever sits at this machine. A foreign page can send its reader's browser here under a name of its own
        (DNS rebinding), so the name that was asked for counts as well."""
        asked = urlsplit(f"//{request.headers.get('host', '')}").hostname
        client = request.client.host if request.client else ""
        if not is_loopback(client) or asked not in LOOPBACK:
            raise Problem(403, "Only from this machine", "Without keys this server answers its own machine alone.")
        return Who(getpass.getuser(), "admin", self.csrf)

    def check_token(self, request: Request, who: Who, sent: str | None) -> None:
        """Raises Problem where a page's request lacks its session's token."""
        if who.csrf and not secrets.compare_digest((sent or "").encode(), who.csrf.encode()):
            raise Problem(
                403, "Not from this page", "The page is too old, or the request came from another one. Reload it."
            )


def needs(role: Role) -> Callable[[Request], Who]:
    """A dependency: who asks, if they may. What changes something must not come from a foreign page."""

    def who(request: Request) -> Who:
        found = request.app.state.guard.who(request)
        if found is None:
            raise Problem(401, "Key needed", "Send the header `Authorization: Bearer KEY`.", WWW_Authenticate="Bearer")
        if not found.may(role):
            raise Problem(403, "Not allowed", f"This needs the role {role}; {found.name} is a {found.role}.")
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            check_origin(request)
            if "cookie" in request.headers and request.app.state.guard.access == "keys" and found.csrf:
                request.app.state.guard.check_token(request, found, request.headers.get("x-csrf-token"))
        return found

    return who


def check_origin(request: Request) -> None:
    """Raises Problem where a browser says that the request comes from another site's page."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") or (
        origin not in (None, "null") and urlsplit(str(origin)).netloc != request.headers.get("host")
    ):
        raise Problem(403, "From another site", "Pages of other sites may not send requests here.")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
