"""What strangers write to mailing lists: posts, requests, reports (RFC 2369, RFC 3464)."""

from fastmail.delivery.lists import bounces, content, posting, requests
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import LIST, List
from tests.support.growth import Case

ROW = List("crew@d.test", tag="[t]", footer="bye", reply_to=LIST)
REPORT = b"Content-Type: multipart/report; boundary=b\n\n--b\n"
STATUS = b"Content-Type: message/delivery-status\n\nReporting-MTA: x\n\n"


def _made(text: bytes) -> object:
    return content.made(ROW, text, True)


def _post(text: bytes) -> object:
    return posting.is_automatic(text), posting.has_passed(text, ROW), posting.author_of(text)


def _tokens() -> Tokens:
    made = Tokens(MemoryDirectory())
    made.prepare()
    return made


CREW = List("crew@d.test")
TOKENS = _tokens()
CASES = [
    Case("list: subjects", 400, lambda n: b"Subject: x\n" * n + b"\nbody\n", _made),
    Case("list: a long subject", 2_000, lambda n: b"Subject: " + b"=?a?q?b" * n + b"\n\nbody\n", _made),
    Case("list: a long name", 4_000, lambda n: b"From: " + b'"a\\' * n + b"<a@b.c>\n\nbody\n", _made),
    Case("list: a long body", 20_000, lambda n: b"Content-Type: text/html\n\n" + b"\n--=_" * n, _made),
    Case("list: List-Id fields", 1_000, lambda n: b"List-Id: <a.b>\n" * n + b"\n", _post),
    Case("list: a long Auto-Submitted", 20_000, lambda n: b"Auto-Submitted: " + b"no " * n + b"\n\n", _post),
    Case(
        "list: words of a request",
        8_000,
        lambda n: b"Subject: " + b"Re: " * n + b"\n\n",
        lambda t: requests.wish("", t),
    ),
    Case("list: a token", 8_000, lambda n: "a" * n, lambda text: TOKENS.joins(CREW, text)),
    Case("list: an envelope sender", 8_000, lambda n: "=" * n, lambda text: TOKENS.bounced(CREW, text)),
    Case("list: parts of a report", 2_000, lambda n: REPORT + b"\n--b\n" * n, bounces.read),
    Case("list: recipients of a report", 200, lambda n: REPORT + STATUS + b"Action: failed\n\n" * n, bounces.read),
    Case("list: space in a report", 8_000, lambda n: REPORT + STATUS + b"\n \t" * n, bounces.read),
]
