"""Leaving a mailing list by a web page, or with one click in a mail program (RFC 8058).

GET shows who would leave which list, and a button. It changes nothing, however often it comes: scanners of mail follow
every link that they find (RFC 8058 1). POST with List-Unsubscribe=One-Click, which the button sends too, removes the
member, on the disk before the answer; it needs no cookie and no login, and is answered with no redirect (RFC 8058 3.1).

Promises: who has no token learns nothing. A token that was not made here is a page that is not there, and a member who
left already gets the same answer as one who leaves now, so the answers tell nobody who is a member. Posting again is
harmless.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from fastmail.admin.pages import button, page, paragraph
from fastmail.delivery.lists.leaving import leave
from fastmail.directory.interface import Directory
from fastmail.directory.list_links import Links
from fastmail.directory.records import List
from fastmail.model.errors import MailError
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

T = TypeVar("T")
NAME, VALUE = "List-Unsubscribe", "One-Click"  # RFC 8058 3.1
FIELDS = 20  # of a form; more of them are no click
_NAME = re.compile(rb'(?i)content-disposition:.*[; \t]name="?list-unsubscribe"?[ \t]*(?:;|$)')


@dataclass(frozen=True, slots=True)
class Unsubscribing:
    """``route`` answers below ``delivery.lists.one_click.PATH``."""

    directory: Directory
    links: Links

    async def route(self, request: Request) -> Response:
        """Answer GET, HEAD and POST of a token."""
        try:
            found = await _aside(lambda: self._found(str(request.path_params["token"])))
            if found is None:
                return not_valid()
            row, of, member = found
            if row is None:
                return _no_list(of)
            if request.method != "POST":
                return _question(row, member)
            if not await _is_click(request):
                return _no_click()
            if await _aside(lambda: leave(self.directory, row.address, member)):
                count("lists.one_click")
        except (MailError, OSError) as error:
            log.event("web.trouble", "error", error=error)
            return _later()
        return _done(row, member)

    def _found(self, token: str) -> tuple[List | None, str, str] | None:
        """(the list, its address, the member) of a token; None for a token that was not made here. It may wait for the
        disk."""
        known = self.links.read(token)
        if known is None:
            return None
        of, member = known
        return self.directory.mailing_list(of), of, member


async def _aside(work: Callable[[], T]) -> T:
    """Run on a helper thread what may wait for the disk."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _is_click(request: Request) -> bool:
    """True for the body of RFC 8058 3.2, in either encoding; one without a type is taken for the usual one."""
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return has_click(body)
    if kind not in ("application/x-www-form-urlencoded", ""):
        return False
    try:
        fields = parse_qs(body.decode("ascii", "replace").strip(), max_num_fields=FIELDS)
    except ValueError:
        return False
    return fields.get(NAME) == [VALUE]


def has_click(body: bytes) -> bool:
    """True if a multipart/form-data body (RFC 7578) has the field. Its boundary is not compared: that of the example in
    RFC 8058 8.3 is wrong, and the token decides, not the form."""
    named, value = False, None  # value: None in the header of a part
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"--"):
            if named and value == [VALUE.encode()]:
                return True
            named, value = False, None
        elif value is not None:
            value.append(line.strip())
        elif not line:
            value = list[bytes]()
        else:
            named = named or _NAME.match(line) is not None
    return False


# ---------------------------------------------------------------- pages


def shown(address: str) -> str:
    """An address as a page shows it: whoever a message was passed on to may open its link, and need not learn all of
    the member's address."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1] if len(local) > 2 else ''}***@{domain}"


def _question(row: List, member: str) -> Response:
    return page(
        f"Leave the mailing list {row.name or row.address}?",
        paragraph(f"Messages to {row.address} are sent on to {shown(member)}."),
        button("Unsubscribe", NAME, VALUE),
    )


def _done(row: List, member: str) -> Response:
    return page(
        "You are unsubscribed",
        paragraph(f"{shown(member)} gets no more mail of {row.address}."),
        paragraph("A message that is on its way already may still arrive."),
    )


def _no_list(of: str) -> Response:
    return page(
        "This mailing list is gone",
        paragraph(f"There is no list {of} here any more, so it sends nothing. There is nothing left to do."),
        status=410,
    )


def not_valid() -> Response:
    """The page for all that is not there, a forged token as well as any other path."""
    return page(
        "This link leads nowhere",
        paragraph(
            "If it is from a message of a mailing list, a mail program may have cut it off: copy all of it, also "
            "where it goes on in the next line."
        ),
        paragraph(
            "Or leave the list by mail. Most mail programs have a button for that. In the full header of the message, "
            '"List-Unsubscribe" names the address to write to.'
        ),
        status=404,
    )


def _no_click() -> Response:
    return page(
        "Nothing was changed",
        paragraph(
            f"A request to leave a list has the body {NAME}={VALUE}, as application/x-www-form-urlencoded or "
            "multipart/form-data (RFC 8058). To leave it by hand, open the link and press the button."
        ),
        status=400,
    )


def _later() -> Response:
    return page(
        "Please try again later",
        paragraph("The server cannot do that at the moment. Nothing was changed."),
        status=503,
        headers={"Retry-After": "300"},
    )
