"""A survey of a domain: all that others look at before they take its mail, in the order in which to put it right.

Promise: it ends within LONGEST seconds, whatever name servers and web servers do; what was not known by then is said
to be unknown. Nothing is changed, and nothing is sent but questions to name servers and, for MTA-STS, one to a web
server.
"""

import asyncio
from dataclasses import dataclass

from fastmail.app.deliverability import host, lists, sender, wishes
from fastmail.app.deliverability.lists import Page
from fastmail.app.deliverability.nouns import ERROR, HINT, LOOKED_AT, OK, WARNING, Asked, Line, some
from fastmail.app.deliverability.wishes import Get, Wished
from fastmail.config.settings import Config
from fastmail.directory.records import Domain
from fastmail.policy.signer import Signing

SECONDS = 25.0  # for all look-ups together
LOOKUPS = 600
LONGEST = 45.0
MUCH = 5000  # messages a day to one of the big receivers, from which their rules for bulk senders count


@dataclass(frozen=True, slots=True)
class Subject:
    """The domain as the directory has it, who signs for it, and this server's configuration. ``page``: fetches a page
    of our own web server, where the domain has mailing lists."""

    row: Domain
    signing: Signing | None
    config: Config
    page: Page | None = None


async def survey(asked: Asked, subject: Subject, get: Get) -> list[Line]:
    """All lines about a domain. ``get``: fetches its MTA-STS policy."""
    try:
        async with asyncio.timeout(LONGEST):
            return await _survey(asked, subject, get)
    except TimeoutError:
        why = f"it took longer than {LONGEST:g} s"
        return [Line("survey", ERROR, f"{asked.domain} could not be looked at: {why}", "is the name server at work?")]


async def _survey(asked: Asked, subject: Subject, get: Get) -> list[Line]:
    config = subject.config
    lines = await host.named(asked)
    if not asked.smarthost and (asked.hidden or not asked.sources):
        lines.append(_assume(asked))
    asked.sources = asked.sources[:LOOKED_AT]
    if asked.smarthost:
        todo = "its SPF record has to be included in yours; name its addresses with --address to have them checked"
        lines.append(Line("sources", HINT, f"mail leaves by {asked.smarthost}, which answers for reverse DNS", todo))
    signs = config.policy.sign
    (hosts, mx), reverse, spf, dkim = await asyncio.gather(
        host.mail_hosts(asked),
        asyncio.gather(*(host.reverse(asked, one) for one in asked.sources)),
        sender.spf(asked),
        sender.dkim(asked, subject.row, subject.signing, config.server.data_dir, signs),
    )
    wished, sts, reports = await asyncio.gather(
        wishes.policy(asked, spf, dkim), wishes.transport(asked, mx, get), wishes.tls_reports(asked)
    )
    lines += [*host.encrypted(config), *hosts, *reverse, *spf.lines, *dkim.lines, *wished.lines, *sts, *reports]
    if subject.page is not None:
        lines += await lists.one_click(config.web.url, dkim.passes, subject.page)
    return [*lines, *_receivers(asked, config, reverse, wished)]


def _assume(asked: Asked) -> Line:
    """Take the addresses of the host's name for those that others see, where this machine does not know them."""
    wanted = {":" in one for one in asked.hidden} or {True, False}
    found = [one for one in asked.host if (":" in one) in wanted]
    asked.sources = list(dict.fromkeys([*asked.sources, *found]))
    why = f"others cannot see {some(asked.hidden)}" if asked.hidden else "this machine has no way out"
    what = f"{why}; mail is taken to leave from {some(asked.sources) or 'nowhere'}"
    return Line("sources", WARNING if asked.sources else ERROR, what, "name the addresses with --address")


def _receivers(asked: Asked, config: Config, reverse: list[Line], wished: Wished) -> list[Line]:
    """The rules of Gmail, Yahoo and Outlook.com, since 2024 and 2025."""
    missing = []
    if not wished.aligned:
        missing.append("SPF or DKIM that vouches for the author")
    if not wished.there:
        missing.append("a DMARC record")
    if any(line.state == ERROR for line in reverse):
        missing.append("reverse DNS")
    if config.relay.tls == "none":
        missing.append("TLS: [relay] tls is none")
    check, who = "receivers", "Gmail, Yahoo and Outlook.com"
    if missing:
        line = Line(
            check, ERROR, f"{who} refuse mail, or put it into Junk, for want of {'; '.join(missing)}", "see above"
        )
    elif asked.smarthost:
        line = Line(check, OK, f"{who} find what they ask for, as far as it depends on this server")
    else:
        line = Line(check, OK, f"{who} find what they ask of everybody")
    bulk = f"from {MUCH:,} messages a day to one of them on, they want both SPF and DKIM, and one-click unsubscribing"
    if len(wished.aligned) < 2 and not missing:
        bulk = f"one of SPF and DKIM is missing; {bulk}"
    todo = (
        "mailing lists here have it where [web] url is set; a program that sends newsletters has to add "
        "List-Unsubscribe with an https address, and List-Unsubscribe-Post: List-Unsubscribe=One-Click (RFC 8058)"
    )
    return [line, Line(check, HINT, bulk, todo)]
