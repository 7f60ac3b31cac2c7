"""Who is let in, and how: before any page is thought of.

A server on the loopback is reached by every page that the user's browser has open: by a name that
its owner points to 127.0.0.1 (DNS rebinding) it would even be allowed to read the answers. So the
name that was asked for is checked, whoever asks. Beyond the loopback a token is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
        " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
)
"""What every answer carries."""

LOOPBACK_NAMES = frozenset({"localhost"})
TOKEN = "token"  # noqa: S105 - the name of a parameter

_ALLOWED = ("GET", "HEAD")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")
_COOKIE = "sentinel-ui"


@dataclass(frozen=True, slots=True)
class Entry:
    """Who may come in: ``names`` by which this server may be asked for, besides addresses.

    ``only_loopback`` allows the loopback's addresses alone. Without a ``token`` everybody may come.
    """

    names: frozenset[str]
    only_loopback: bool
    token: str | None

    @classmethod
    def of(cls, host: str, names: Iterable[str], token: str | None) -> Entry:
        """Return who may come in to a server that listens at ``host``."""
        allowed = {name.casefold() for name in names} | LOOPBACK_NAMES
        if is_loopback(host):
            return cls(frozenset(allowed), only_loopback=True, token=token)
        named = {host.casefold()} if _address(host) is None else set[str]()
        return cls(frozenset(allowed | named), only_loopback=False, token=token)

    def knows(self, host: str) -> bool:
        """Tell whether a Host header names this server; the port is whatever leads here."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].casefold().strip("[]")
        address = _address(name)
        if address is None:
            return name in self.names
        return address.is_loopback or not self.only_loopback or name in self.names

    def opens(self, told: str) -> bool:
        """Tell whether a token is the right one, in a time that does not tell how near it was."""
        return self.token is None or _same(told, self.token)

    @property
    def cookie(self) -> str:
        """Return what a browser keeps instead of the token, which it is not to be read from."""
        key = (self.token or "").encode()
        return hmac.new(key, b"sentinel ui cookie", hashlib.sha256).hexdigest()

    def remembers(self, told: str) -> bool:
        """Tell whether a cookie is the one that was given out."""
        return self.token is None or _same(told, self.cookie)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    address = _address(host)
    return host.casefold() in LOOPBACK_NAMES if address is None else address.is_loopback


class Door:
    """Lets requests through to an application, or refuses them with a page of one sentence."""

    def __init__(
        self, app: ASGIApp, entry: Entry, refuse: Callable[[int, str, str], Response]
    ) -> None:
        self._app = app
        self._entry = entry
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request by ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in told
                    ),
                ]
            await send(message)

        answer = self._answer(scope)
        await (self._app if answer is None else answer)(scope, receive, sending)

    def _answer(self, scope: Scope) -> Response | None:
        """Return what is said at the door, None for a request that may go in."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._entry.knows(hosts[0]):
            return self._refuse(
                400,
                "Not this name",
                "This server does not answer to the name in the address; ask for it by 127.0.0.1"
                " or localhost, or allow the name with --name.",
            )
        if scope["method"] not in _ALLOWED:
            answer = self._refuse(405, "Nothing is changed here", "Only GET and HEAD are answered.")
            answer.headers["allow"] = ", ".join(_ALLOWED)
            return answer
        return None if self._entry.token is None else self._checked(scope)

    def _checked(self, scope: Scope) -> Response | None:
        query = scope["query_string"].decode("latin-1")
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
        tokens = [value for name, value in given if name == TOKEN]
        if tokens and self._entry.opens(tokens[0]):
            return self._welcome(scope["path"], [pair for pair in given if pair[0] != TOKEN])
        if self._entry.opens(_bearer(scope)) or self._entry.remembers(_cookie(scope)):
            return None
        answer = self._refuse(
            401,
            "A token is needed",
            "Open this address once with ?token=, and the token that the server was started with;"
            " or send it as Authorization: Bearer.",
        )
        answer.headers["www-authenticate"] = 'Bearer realm="sentinel ui"'
        return answer

    def _welcome(self, path: str, rest: list[tuple[str, str]]) -> Response:
        """Return a page that keeps the token out of the address from here on.

        A redirect would still count as the other site's request where a link led here, and a
        cookie of SameSite=Strict would not be sent with it.
        """
        place = _here(path) + (f"?{urlencode(rest)}" if rest else "")
        answer = HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Sentinel</title>"
            f'<meta http-equiv=refresh content="0; url={_quoted(place)}">'
            f'<p><a href="{_quoted(place)}">Go on</a></p>'
        )
        answer.set_cookie(_COOKIE, self._entry.cookie, httponly=True, samesite="strict", path="/")
        answer.headers["cache-control"] = "no-store"
        return answer


def _here(path: str) -> str:
    """Return a path of this server only: two slashes would begin another server's name."""
    return "/" + path.lstrip("/\\")


def _quoted(text: str) -> str:
    for char, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, entity)
    return text


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, told = value.decode("latin-1").partition(" ")
            return str(told).strip() if kind.casefold() == "bearer" else ""
    return ""


def _cookie(scope: Scope) -> str:
    told = "; ".join(
        value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"
    )
    try:
        cookie = SimpleCookie(told).get(_COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def _same(told: str, known: str) -> bool:
    return hmac.compare_digest(told.encode("utf-8", "replace"), known.encode())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
