"""Leaving a list by the web: GET changes nothing, one POST does, and answers tell nobody who is a member."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastmail.admin.pages import HEADERS
from fastmail.admin.site import application
from fastmail.admin.unsubscribe import shown
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List, Member
from fastmail.model.errors import TemporaryError

CREW, YOU, ME = "crew@d.test", "you@far.test", "me@far.test"
FORM = "application/x-www-form-urlencoded"
CLICK = b"List-Unsubscribe=One-Click"
PARTS = b'--xyz\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--xyz--\r\n'
# the body of RFC 8058 8.3, whose delimiter lacks two hyphens
EXAMPLE = (
    b'---FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n'
    b"---FormBoundaryjWmhtjORrn--\r\n"
)


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Web:
    """A directory with a list of two members, and its pages."""

    def __init__(self, url: str = "https://lists.d.test") -> None:
        self.place = MemoryDirectory()
        self.place.add_domain("d.test")
        self.place.put_list(List(CREW, name="The <crew>", owners=("a@far.test",)), [Member(YOU), Member(ME)])
        self.links = Links(self.place)
        self.links.prepare()
        self.app = application(self.place, url)

    def path(self, member: str = YOU, of: str = CREW) -> str:
        return "/u/" + self.links.token(of, member)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("192.0.2.1", 0),
            "server": None, "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        }  # fmt: skip
        out = Answer()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                out.status = message["status"]
                out.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                out.text += message.get("body", b"").decode()

        asyncio.run(self.app(scope, receive, send))
        return out

    def members(self) -> list[str]:
        return [one.address for one in self.place.each_member(CREW)]


@pytest.fixture
def web() -> Iterator[Web]:
    yield Web()


def test_get_shows_a_button_and_changes_nothing(web: Web) -> None:
    for _ in range(3):
        got = web.ask("GET", web.path())
    assert got.status == 200 and web.members() == [ME, YOU]
    assert "The &lt;crew&gt;" in got.text and "<crew>" not in got.text, "what a list is called is text"
    assert "y***@far.test" in got.text and YOU not in got.text
    assert re.search(
        r'<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click"><button', got.text
    )
    assert "<script" not in got.text and "http" not in re.sub(r"<!DOCTYPE.*?>", "", got.text), "it loads nothing"
    head = web.ask("HEAD", web.path())
    assert head.status == 200 and web.members() == [ME, YOU]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, CLICK),
        (FORM + "; charset=utf-8", CLICK + b"\r\n"),
        ("Application/X-WWW-Form-URLencoded", b"List%2DUnsubscribe=One%2DClick&other=1"),
        ("", CLICK),
        ("multipart/form-data; boundary=xyz", PARTS),
        ("multipart/form-data; boundary=xyz", PARTS.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n")),
        ("multipart/form-data; boundary=---FormBoundaryjWmhtjORrn", EXAMPLE),
    ],
)
def test_one_post_is_enough(web: Web, kind: str, body: bytes) -> None:
    headers = {"Content-Type": kind} if kind else {}
    got = web.ask("POST", web.path(), body, headers)
    assert got.status == 200 and "location" not in got.headers and "set-cookie" not in got.headers
    assert web.members() == [ME] and "You are unsubscribed" in got.text
    notes = [change for change in web.place.audit() if change.what == "list member remove"]
    assert [(one.name, one.text) for one in notes] == [(CREW, YOU)]
    again = web.ask("POST", web.path(), body, headers)
    assert (again.status, again.text) == (got.status, got.text), "nobody sees who is a member"
    assert web.ask("GET", web.path()).text == web.ask("GET", web.path()).text
    assert len([True for change in web.place.audit() if change.what == "list member remove"]) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b""),
        (FORM, b"List-Unsubscribe=Two-Clicks"),
        (FORM, b"list-unsubscribe"),
        (FORM, CLICK + b"&List-Unsubscribe=No"),
        (FORM, b"&".join(b"a=b" for _ in range(100)) + b"&" + CLICK),
        (FORM, b"\xff\xfe"),
        ("text/plain", CLICK),
        ("application/json", b'{"List-Unsubscribe": "One-Click"}'),
        ("multipart/form-data; boundary=xyz", CLICK),
        ("multipart/form-data; boundary=xyz", PARTS.replace(b"One-Click", b"One")),
        ("multipart/form-data", b""),
    ],
)
def test_what_is_no_click_changes_nothing(web: Web, kind: str, body: bytes) -> None:
    got = web.ask("POST", web.path(), body, {"Content-Type": kind})
    assert got.status == 400 and "List-Unsubscribe=One-Click" in got.text and web.members() == [ME, YOU]


def test_a_forged_token_is_a_page_that_is_not_there(web: Web) -> None:
    good = web.path()
    elsewhere = web.ask("GET", "/")
    assert elsewhere.status == 404 and "names the address to write to" in elsewhere.text
    forged = [
        "/u/",
        "/u/x",
        good[:-3],
        good + "AAAA",
        "/u/" + "A" * 90,
        good + "/",
        "/u/" + "a" * 9000,
        "//u/x",
        "/u/a/b",
    ]
    for path in forged:
        for method in ("GET", "POST"):
            got = web.ask(method, path, CLICK, {"Content-Type": FORM})
            assert (got.status, got.text) == (404, elsewhere.text), path
    assert web.members() == [ME, YOU]
    stranger = Web()
    assert web.ask("POST", stranger.path(), CLICK, {"Content-Type": FORM}).status == 404, "of another server"


def test_a_list_that_is_gone(web: Web) -> None:
    path = web.path()
    web.place.remove_list(CREW)
    for method in ("GET", "POST"):
        got = web.ask(method, path, CLICK, {"Content-Type": FORM})
        assert got.status == 410 and "crew@d.test" in got.text


def test_a_link_counts_after_its_domain_has_another_name(web: Web) -> None:
    path = web.path()
    web.place.rename_domain("d.test", "new.test")
    assert web.ask("POST", path, CLICK, {"Content-Type": FORM}).status == 200
    assert [one.address for one in web.place.each_member("crew@new.test")] == [ME]


def test_other_methods(web: Web) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        got = web.ask(method, web.path(), CLICK, {"Content-Type": FORM})
        assert got.status == 405 and set(got.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert web.members() == [ME, YOU]


def test_a_disk_that_fails_is_told_as_such(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise TemporaryError("the disk is full: /secret/path")

    path = web.path()
    monkeypatch.setattr(web.place, "remove_member", full)
    got = web.ask("POST", path, CLICK, {"Content-Type": FORM})
    assert got.status == 503 and got.headers["retry-after"] and "secret" not in got.text


def test_all_answers_have_the_fields_that_keep_a_secret(web: Web) -> None:
    for method, path in (("GET", web.path()), ("POST", web.path()), ("GET", "/"), ("PUT", web.path())):
        got = web.ask(method, path, CLICK, {"Content-Type": FORM})
        for name, value in HEADERS.items():
            assert got.headers[name.lower()] == value
        assert got.headers["content-type"] == "text/html; charset=utf-8"


def test_a_url_with_a_path_is_served_with_and_without_it() -> None:
    web = Web("https://d.test/lists")
    token = web.path()
    assert web.ask("GET", token).status == web.ask("GET", "/lists" + token).status == 200
    assert web.ask("GET", "/other" + token).status == 404


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("anna@d.test", "a***@d.test"),
        ("ab@d.test", "***@d.test"),
        ("a@d.test", "***@d.test"),
        ("ünal@d.test", "ü***@d.test"),
    ],
)
def test_addresses_are_shown_in_part(address: str, wanted: str) -> None:
    assert shown(address) == wanted
