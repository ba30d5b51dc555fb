"""Tests whether members of a domain's mailing lists can leave with one click, as big receivers want it (RFC 8058).

It asks the server's own web address as a receiver does, and verifies the certificate. It asks for a link that does not
exist: our web server answers with its page for such links.
"""

from collections.abc import Awaitable, Callable

from fastmail.app.deliverability.nouns import ERROR, HINT, OK, WARNING, Asked, Line
from fastmail.delivery.lists.one_click import PATH
from fastmail.model.errors import MailError, in_words
from fastmail.net import web

Page = Callable[[str], Awaitable[web.Answer]]
CHECK = "one-click"
FETCH = 10.0  # s
NOBODY = "deliverability"  # no token
MISSING = 404


def fetcher(asked: Asked) -> Page:
    """Return a function that fetches a page; it raises OSError and MailError. The page may be on this machine, because
    the URL is the operator's own."""

    async def resolve(host: str) -> list[str]:
        return (await asked.addresses(host))[0]

    async def get(url: str) -> web.Answer:
        return await web.ask(web.Request(url, limit=1024, inside=True), resolve, FETCH)

    return get


async def one_click(url: str, signed: bool, get: Page) -> list[Line]:
    """``url``: of [web]; ``signed``: receivers can verify a signature of the domain."""
    if not url:
        todo = 'in [web] set listen, such as ["0.0.0.0:443"], and url; docs/operating.md says more'
        return [Line(CHECK, HINT, "members of its mailing lists can leave by mail only, without one click", todo)]
    out = [await _answers(url, get)]
    if not signed:
        what = "no signature covers the fields of one-click unsubscribing, so receivers offer no click (RFC 8058 4)"
        out.append(Line(CHECK, WARNING, what, "see dkim"))
    return out


async def _answers(url: str, get: Page) -> Line:
    """Return a line that says whether our web server answers there."""
    where = "listen of [web], and the way to it, have to lead to this server"
    try:
        answer = await get(f"{url}{PATH}{NOBODY}")
    except (OSError, MailError) as error:
        return Line(CHECK, ERROR, f"{url} does not answer: {in_words(error)}", where)
    if answer.status != MISSING or answer.kind != "text/html":
        return Line(CHECK, ERROR, f"another program answers at {url}: {answer.status} {answer.kind}", where)
    return Line(CHECK, OK, f"members of its mailing lists can leave with one click, at {url}")
