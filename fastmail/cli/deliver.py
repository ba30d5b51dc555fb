"""``fastmail deliver``: a message on standard input, as an MDA for other MTAs."""

import asyncio
import sys
from typing import Annotated

import typer

from fastmail._core.lines import to_lf
from fastmail.app.assembly import beside
from fastmail.cli.common import FAILED, TRY_LATER, ConfigOption, command, errors, fail, read_config
from fastmail.config.settings import Config
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope, NotAll, Outcome
from fastmail.directory.interface import fresh
from fastmail.directory.lookup import NOT_FOUND
from fastmail.directory.origins import domain_of
from fastmail.message import header
from fastmail.message.header import Octets
from fastmail.model.address import Address
from fastmail.model.errors import TemporaryError, in_words
from fastmail.queue.model import Rcpt
from fastmail.telemetry import log

NO_USER = 67


@command
def deliver(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Recipients of this server.")],
    sender: Annotated[str, typer.Option("-r", "--sender", help="Reverse-path; empty for bounces.")] = "",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Deliver a message from standard input. Exit codes: 0 delivered, 67 no such user, 75 try again later (then nobody
    has it). The reverse-path may be that of another MTA's pipe: MAILER-DAEMON and <> stand for none, and a name without
    a domain is one of this host."""
    settings = read_config(config)
    log.setup(settings.log.format, "warning")
    content = sys.stdin.buffer.read()
    content = content[header.mbox_line(content) :]  # an mbox separator that some MTAs put in front
    if len(content) > settings.limits.message_size:
        fail(f"message is too big: {settings.limits.message_size} octets is the most")
    try:
        outcomes = asyncio.run(_deliver(settings, addresses, sender, to_lf(content)))
    except OSError as error:  # our fault, not the message's: it must not come back to its sender
        fail(in_words(error), TRY_LATER)
        return
    bad = [(a, o) for a, o in zip(addresses, outcomes, strict=True) if not o.ok]
    for address, outcome in bad:
        errors.print(f"{address}: {outcome.code} {outcome.enhanced} {outcome.text}", markup=False)
    if any(outcome.code < 500 for _, outcome in bad):
        raise typer.Exit(TRY_LATER)
    if bad:
        raise typer.Exit(NO_USER if all(o.enhanced == "5.1.1" for _, o in bad) else FAILED)


def reverse_path(text: str, hostname: str) -> str:
    """What MTAs put in front of a message that they hand to a program; BadAddress for anything else."""
    text = text.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    if not text or text.upper() == "MAILER-DAEMON":
        return ""
    return str(Address.parse(text if "@" in text else f"{text}@{hostname}"))


async def _deliver(settings: Config, addresses: list[str], sender: str, content: bytes) -> list[Outcome]:
    async with beside(settings) as assembly:
        hostname = settings.server.hostname
        envelope = Envelope(sender=reverse_path(sender, hostname), helo="localhost", protocol="local")
        outcomes: list[Outcome | None] = []
        for text in addresses:
            whole = f"{text}@{hostname}" if text.lower() == "postmaster" else text  # RFC 5321 4.5.1
            address = str(Address.parse(whole))
            try:
                await fresh(assembly.directory, address)
                unsure = assembly.directory.is_uncertain(domain_of(address))
            except TemporaryError:
                unsure = True
            there = assembly.deliverer.destinations(address)
            if there:
                envelope.recipients.append((address, there.accounts))
                envelope.asked.append(Rcpt(address))
                outcomes.append(None)
                if there.queued:
                    envelope.forwards.add(address)
            elif there.refusal != NOT_FOUND:
                code, enhanced, words = there.refusal.split(" ", 2)
                outcomes.append(Outcome(int(code), enhanced, words))
            elif unsure:
                outcomes.append(Outcome(451, "4.3.0", "accounts cannot be looked up now"))
            else:
                outcomes.append(Outcome(550, "5.1.1", "no such user here"))
        if any(outcome is not None and outcome.code < 500 for outcome in outcomes):
            again = Outcome(451, "4.3.0", "not delivered because of another recipient")
            return [again if outcome is None else outcome for outcome in outcomes]
        delivered: list[Outcome] = []
        taken = [address for address, _ in envelope.recipients]
        if taken and await assembly.reporting.read(taken, await header.with_end(content)):
            delivered = [Outcome(250, "2.0.0", "read as a report")] * len(taken)
        elif envelope.forwards:  # the queue takes it for all of them
            outcome = await assembly.submission.submit(envelope, await header.with_end(content), False)
            delivered = [outcome] * len(envelope.recipients)
        elif envelope.recipients:
            delivered = await _to_all(assembly.deliverer, envelope, await header.with_end(content))
        left = iter(delivered)
        return [next(left) if outcome is None else outcome for outcome in outcomes]


async def _to_all(deliverer: Deliverer, envelope: Envelope, content: Octets) -> list[Outcome]:
    """One exit code answers for all recipients. Whoever hears "later" comes again with all of them, so nobody gets the
    message then; who can never have it does not stop the others."""
    try:
        return await deliverer.deliver_to_all(envelope, content)
    except NotAll as trouble:
        await deliverer.take_back(trouble.kept)
        if trouble.worst.code < 500:
            return [trouble.worst] * len(envelope.recipients)
        return await deliverer.deliver(envelope, content)
