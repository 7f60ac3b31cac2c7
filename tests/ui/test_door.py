"""Who is let in: names, methods, tokens, and what every answer carries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sentinel.ui.door import Entry

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    "path", ["/", "/events", "/rules", "/rules/nan-values", "/nothing", "/live", "/static/ui.js"]
)
def test_every_answer_is_locked(site, path):
    """Also a refusal: nothing is loaded from elsewhere, framed, sniffed or told to others."""
    headers = site.server.ask(path, method="HEAD").headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/events", "/live", "/static/ui.js", "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_nothing_is_changed_by_any_request(site, method, path):
    """Every method but GET and HEAD is refused, wherever it goes."""
    answer = site.server.ask(path, method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8321", "127.0.0.1:9", "[::1]:8321"])
def test_names_of_the_loopback_are_answered(site, host):
    """By whatever port a tunnel has."""
    assert site.server.ask("/", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.evil.example",
     "192.168.0.7", "localhost@evil.example", "localhost evil", "", "0.0.0.0", "localhost:8321:1"],
)  # fmt: skip
def test_other_names_are_refused(site, host):
    """A name that its owner points to 127.0.0.1 gets a page without a word of the log."""
    answer = site.server.ask(f"/runs/{site.faulty}", Host=host)

    assert answer.status == 400
    assert site.faulty not in answer.text


@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: evil.example\r\n"])
def test_a_request_of_no_name_or_two_is_refused(site, hosts):
    """HTTP asks for exactly one."""
    told = site.server.raw(f"GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())

    assert told.startswith(b"HTTP/1.1 400")


def test_an_address_that_others_reach_needs_a_token(site):
    """Without one the command ends at once and says what to do."""
    command = [sys.executable, "-m", "sentinel", "ui", "--log", str(site.log), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 2
    assert "no token guards it; give --token-file or SENTINEL_UI_TOKEN" in done.stderr


@pytest.mark.parametrize("token", ["", "short", "with space in the middle", "ünïcödé-ünïcödé-ü"])
def test_a_token_that_is_guessed_is_refused(site, token, tmp_path):
    """Or one that no address and no header can hold."""
    file = tmp_path / "token"
    file.write_text(token, encoding="utf-8")
    command = [sys.executable, "-m", "sentinel", "ui", "--log", str(site.log)]
    command += ["--token-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 2
    assert "at least 16 visible ASCII characters" in done.stderr


def test_a_token_lets_in_once_and_a_cookie_from_then_on(site, serve, tmp_path):
    """The token leaves the address at once; what the browser keeps is not the token."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    options = ("--log", str(site.log), "--host", "0.0.0.0", "--token-file", str(file))
    server = serve(*options, "--name", "gpu1.example.org")

    for path in ("/", f"/runs/{site.faulty}", "/live", "/static/ui.js"):
        refused = server.ask(path)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert site.faulty not in refused.text
    assert server.ask(f"/?token={TOKEN}x").status == 401
    assert server.ask("/", Authorization=f"Bearer {TOKEN[:-1]}").status == 401
    assert server.ask("/", Authorization=f"Basic {TOKEN}").status == 401
    assert server.ask("/", Cookie=f"sentinel-ui={TOKEN}").status == 401

    assert server.ask("/", Authorization=f"Bearer {TOKEN}").status == 200
    welcome = server.ask(f"/events?kind=plan&token={TOKEN}")
    assert welcome.status == 200
    assert 'content="0; url=/events?kind=plan"' in welcome.text
    cookie = welcome.headers["set-cookie"]
    assert TOKEN not in cookie
    assert TOKEN not in welcome.text
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    kept = cookie.split(";")[0]
    assert server.ask("/events", Cookie=kept).status == 200

    assert server.ask("/", Host="gpu1.example.org", Cookie=kept).status == 200
    assert server.ask("/", Host="10.1.2.3:8321", Cookie=kept).status == 200
    assert server.ask("/", Host="other.example.org", Cookie=kept).status == 400


def test_a_token_of_the_environment_guards_the_loopback_too(site, serve):
    """Where other users of the machine must not look."""
    server = serve("--log", str(site.log), SENTINEL_UI_TOKEN=TOKEN)

    assert server.ask("/").status == 401
    assert server.ask("/", Authorization=f"bearer {TOKEN}").status == 200
    assert server.ask(f"//evil.example/?token={TOKEN}").text.count("url=/evil.example/") == 1


def test_which_names_lead_to_which_server():
    """A literal address cannot be pointed elsewhere; beyond the loopback any will do."""
    here = Entry.of("127.0.0.1", ["Box.local"], None)
    wide = Entry.of("0.0.0.0", [], "t" * 16)
    named = Entry.of("gpu1", [], "t" * 16)

    assert here.knows("box.LOCAL:80")
    assert not here.knows("10.0.0.1")
    assert here.knows("127.0.0.2")
    assert wide.knows("10.0.0.1:8321")
    assert wide.knows("[fe80::1]:8321")
    assert not wide.knows("gpu1")
    assert named.knows("gpu1:8321")
