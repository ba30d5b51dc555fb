"""``fastmail deliver``: a message on standard input, as an MDA for other MTAs."""

import asyncio
import sys
from typing import Annotated

import typer

from fastmail._core.lines import to_lf
from fastmail.app.assembly import beside
from fastmail.cli.common import FAILED, TRY_LATER, ConfigOption, command, errors, fail, read_config
from fastmail.config.settings import Config
from fastmail.delivery.deliver import Envelope, Outcome
from fastmail.directory.interface import fresh
from fastmail.model.address import Address
from fastmail.model.errors import TemporaryError
from fastmail.telemetry import log

NO_USER = 67


@command
def deliver(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Recipients of this server.")],
    sender: Annotated[str, typer.Option("-r", "--sender", help="Reverse-path; empty for bounces.")] = "",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Deliver a message from standard input. Exit codes: 0 delivered, 67 no such user, 75 try again later."""
    settings = read_config(config)
    log.setup(settings.log.format, "warning")
    content = sys.stdin.buffer.read()
    if content.startswith(b"From "):
        content = content.partition(b"\n")[2]  # an mbox separator that some MTAs put in front
    if len(content) > settings.limits.message_size:
        fail(f"message is too big: {settings.limits.message_size} octets is the most")
    outcomes = asyncio.run(_deliver(settings, addresses, sender, to_lf(content)))
    bad = [(a, o) for a, o in zip(addresses, outcomes, strict=True) if not o.ok]
    for address, outcome in bad:
        errors.print(f"{address}: {outcome.code} {outcome.enhanced} {outcome.text}", markup=False)
    if any(outcome.code < 500 for _, outcome in bad):
        raise typer.Exit(TRY_LATER)
    if bad:
        raise typer.Exit(NO_USER if all(o.enhanced == "5.1.1" for _, o in bad) else FAILED)


async def _deliver(settings: Config, addresses: list[str], sender: str, content: bytes) -> list[Outcome]:
    async with beside(settings) as assembly:
        envelope = Envelope(sender=str(Address.parse(sender)) if sender else "", helo="localhost", protocol="local")
        outcomes: list[Outcome | None] = []
        for text in addresses:
            address = str(Address.parse(text))
            try:
                await fresh(assembly.directory, address)
                unsure = assembly.directory.uncertain
            except TemporaryError:
                unsure = True
            records = assembly.directory.resolve(address)
            if records:
                envelope.recipients.append((address, records))
                outcomes.append(None)
            elif unsure:
                outcomes.append(Outcome(451, "4.3.0", "accounts cannot be looked up now"))
            else:
                outcomes.append(Outcome(550, "5.1.1", "no such user here"))
        delivered = iter(await assembly.deliverer.deliver(envelope, content) if envelope.recipients else [])
        return [next(delivered) if outcome is None else outcome for outcome in outcomes]
