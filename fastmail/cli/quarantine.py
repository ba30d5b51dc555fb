"""``fastmail quarantine``: what was taken and kept back, and what is to become of it; with or without a running
server."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from fastmail.app.assembly import Assembly, beside
from fastmail.app.derived import quarantine_of
from fastmail.cli.common import (
    FAILED,
    TRY_LATER,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    Row,
    command,
    errors,
    fail,
    output,
    read_config,
    show,
    show_one,
    write_content,
)
from fastmail.delivery.envelope import Envelope, NotAll, Outcome
from fastmail.delivery.quarantine import Kept
from fastmail.directory.interface import fresh
from fastmail.model.errors import MailError

app = typer.Typer(
    no_args_is_help=True, help="Messages that were taken and kept back: infected ones, and those with a high score."
)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A message, as `quarantine list` names it.")]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID...]", help="Messages, as `quarantine list` names them.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that is in quarantine.")]


def _row(one: Kept) -> Row:
    return {
        "id": one.id,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at)),
        "sender": one.sender,
        "recipients": one.recipients,
        "size": one.size,
        "why": one.why,
    }


@app.command("list")
@command
def list_(
    match: MatchOption = "",
    limit: LimitOption = 0,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """What is in quarantine, the oldest first."""
    place = quarantine_of(read_config(config))
    show((_row(one) for one in place.each()), json, match=match, limit=limit, csv=csv)


@app.command("show")
@command
def show_(
    ident: IdArgument,
    content: Annotated[bool, typer.Option("--content", help="Print the message itself.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """All that is known of a message, or the message itself as it was kept. A terminal gets question marks in place of
    what would move its cursor."""
    kept, message = quarantine_of(read_config(config)).load(ident)
    if content:
        write_content(message)
        return
    more = {"message_id": kept.message_id, "helo": kept.helo, "peer": kept.peer, "protocol": kept.protocol}
    show_one(_row(kept) | more, json)


@app.command("release")
@command
def release(
    idents: IdsArgument = None,
    every: AllOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Deliver messages to their recipients, as if they had come now; nobody judges them again. What cannot be delivered
    to somebody stays for that recipient. Cut short between delivery and removal, a message is still in the list."""
    settings = read_config(config)
    place = quarantine_of(settings)
    chosen = _chosen(idents, every, [one.id for one in place.each()])

    async def go() -> list[Row]:
        rows: list[Row] = []
        async with beside(settings) as assembly:
            assembly.deliverer.history = assembly.history  # what becomes of it is in the trace
            for ident in chosen:
                kept, content = place.load(ident)
                outcomes = await _deliver(assembly, kept, content)
                done = [asked.address for asked, outcome in zip(kept.asked, outcomes, strict=True) if outcome.ok]
                assembly.history.note(ident, "released", done, recipients=done)
                left = [asked for asked, outcome in zip(kept.asked, outcomes, strict=True) if not outcome.ok]
                if left:
                    place.remain(kept, left, content)
                else:
                    place.remove(ident)
                for asked, outcome in zip(kept.asked, outcomes, strict=True):
                    reply = f"{outcome.code} {outcome.enhanced} {outcome.text}"
                    rows.append({"id": ident, "recipient": asked.address, "ok": outcome.ok, "reply": reply})
            assembly.bell.ring()
        return rows

    rows = asyncio.run(go())
    if json:
        show(rows, True)
    else:
        for row in rows:
            screen = output if row["ok"] else errors
            screen.print(f"{row['id']} {row['recipient']}: {row['reply']}", markup=False)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(TRY_LATER if any(row["reply"].startswith("4") for row in rows) else FAILED)


async def _deliver(assembly: Assembly, kept: Kept, content: bytes) -> list[Outcome]:
    """One outcome for each recipient. Addresses are looked up as they are now."""
    envelope = Envelope(
        kept.sender,
        options=kept.options,
        helo=kept.helo,
        peer=kept.peer,
        protocol=kept.protocol,
        filters="released from quarantine",
        checked=True,
        doubted=kept.doubted,
    )
    outcomes: dict[str, Outcome] = {}
    for asked in kept.asked:
        try:
            await fresh(assembly.directory, asked.address)
            there = assembly.deliverer.destinations(asked.address)
        except MailError:
            outcomes[asked.address] = Outcome(451, "4.3.0", "accounts cannot be looked up now")
            continue
        if not there:
            code, enhanced, text = there.refusal.split(" ", 2)
            outcomes[asked.address] = Outcome(int(code), enhanced, text)
            continue
        envelope.recipients.append((asked.address, there.accounts))
        envelope.asked.append(asked)
        if there.queued:
            envelope.forwards.add(asked.address)
    said = await _all(assembly, envelope, content) if envelope.recipients else []
    outcomes |= {address: one for (address, _), one in zip(envelope.recipients, said, strict=True)}
    return [outcomes[asked.address] for asked in kept.asked]


async def _all(assembly: Assembly, envelope: Envelope, content: bytes) -> Sequence[Outcome]:
    """By the queue where some of it leaves, at once otherwise. A report is read first, unless its author is in
    doubt."""
    taken = [address for address, _ in envelope.recipients]
    if not envelope.doubted and await assembly.reporting.read(taken, content):
        return [Outcome(250, "2.0.0", "read as a report")] * len(taken)
    if envelope.forwards:
        return [await assembly.submission.submit(envelope, content, False)] * len(envelope.recipients)
    try:
        return await assembly.deliverer.deliver_to_all(envelope, content)
    except NotAll as trouble:
        await assembly.deliverer.take_back(trouble.kept)
        return await assembly.deliverer.deliver(envelope, content)


@app.command("delete")
@command
def delete(idents: IdsArgument = None, every: AllOption = False, config: ConfigOption = "fastmail.toml") -> None:
    """Remove messages. Nobody is told; the trace knows it."""
    settings = read_config(config)
    place = quarantine_of(settings)
    chosen = _chosen(idents, every, [one.id for one in place.each()])

    async def go() -> None:
        history = Assembly(settings).history
        try:
            for ident in chosen:
                place.remove(ident)
                history.note(ident, "deleted")
        finally:
            await history.close()

    asyncio.run(go())
    output.print(f"{len(chosen)} removed")


def _chosen(idents: list[str] | None, every: bool, there: list[str]) -> list[str]:
    """Those that are named, or all."""
    if bool(idents) == every:
        fail("name messages, or say --all", 2)
    return there if every else list(dict.fromkeys(idents or ()))
