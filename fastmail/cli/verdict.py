"""``fastmail verdict``: what would be thought of a message if it came in now, and why; with a recipient, by its own
scores and lists."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from fastmail.app.derived import judge_of, learned_of, policy_settings, resolver_of
from fastmail.cli.common import USAGE, ConfigOption, JsonOption, command, fail, output, read_config, show
from fastmail.config.settings import Config
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Account
from fastmail.message import trace
from fastmail.model.errors import in_words
from fastmail.net import networks
from fastmail.policy import wishes
from fastmail.policy.greylist import Greylist
from fastmail.policy.learning.counts import EVERYBODY
from fastmail.policy.reasons import Finding
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Look, Received
from fastmail.policy.scanners.nouns import STRANGERS, Shown
from fastmail.policy.wishes import Wanted, Wishes
from fastmail.smtp import wanted


@command
def verdict(
    message: Annotated[str, typer.Argument(metavar="FILE", help="The message as it would come; - for standard input.")],
    sender: Annotated[str, typer.Option("--from", metavar="ADDRESS", help="MAIL FROM; empty for a report.")] = "",
    ip: Annotated[str, typer.Option("--ip", metavar="ADDRESS", help="The address that it would come from.")] = "",
    helo: Annotated[str, typer.Option("--helo", metavar="NAME", help="What the client calls itself.")] = "",
    recipient: Annotated[
        str, typer.Option("--to", metavar="ADDRESS", help="RCPT TO: its settings and lists count.")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Each reason, with its score.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """What would happen to a message and why: SPF, DKIM, DMARC, ARC by the DNS of now, and what scanners and the
    classifier say.

    Nothing is delivered or remembered. Without --ip nothing is said of the host that it came from, nor whether it would
    be put off because its sender is not known (greylisting).
    """
    settings = read_config(config)
    if ip:
        try:
            networks.address(ip)
        except ValueError:
            fail(f"{ip} is no IP address", USAGE)
    asked, told = _asked(settings, recipient)
    found = asyncio.run(_check(settings, message, sender, recipient, ip, helo, [one.wishes for one in asked]))
    action = found.verdict.action
    if json:
        recipients = [_wanted(found, one, said) for one, said in zip(asked, told, strict=True)]
        show([_row(found) | {"recipients": recipients}], True)
        return
    happens = "" if found.enforced(action) or action == "accept" else " (not done: [policy] enforce is false)"
    output.print(f"{action}, score {found.verdict.score:g}{happens}", markup=False)
    if action in ("refuse", "later"):
        output.print("reply: {} {} {}".format(*found.verdict.reply), markup=False)
    if found.tag:
        output.print(f"subject: {found.tag} is put in front of it, unless the message leaves", markup=False)
    for one, said in zip(asked, told, strict=True):
        row = _wanted(found, one, said)
        values = ", ".join(f"{name} {_shown(row[name])} ({said[name]})" for name in wishes.VALUES)
        output.print(f"{one.address}: {row['action']}; {values}", markup=False)
    if explain:
        show([{"score": f"{one.score:g}", "reason": one.name, "why": one.why} for one in found.verdict.reasons], False)
        if found.checks.sender is not None and found.checks.sender.explanation:
            output.print(f"the sender's domain explains: {found.checks.sender.explanation}", markup=False)
        output.print(f"{found.asked} look-ups", markup=False)
    output.print(found.add.decode().rstrip("\n"), markup=False)


def _asked(config: Config, recipient: str) -> tuple[list[Wanted], list[dict[str, str]]]:
    """(what those behind an address ask for; of each, which level says which setting); nothing for an address that
    nobody here has."""
    if not recipient:
        return [], []
    place = LocalDirectory(config.server.data_dir)
    try:
        there = place.destinations(recipient.lower())
        found = wanted.behind(place, policy_settings(config).wishes, recipient, there) if there else []
        accounts = {one.id: one for one in there.accounts}
        rows = [(place.domain(one.address.rpartition("@")[2]), accounts.get(one.number)) for one in found]
    finally:
        place.close()
    return found, [dict(wishes.told(*row)) for row in rows]


def _shown(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"


def _wanted(found: Received, one: Wanted, said: dict[str, str]) -> dict[str, Any]:
    """What becomes of the message for one recipient, by which settings."""
    asked = one.wishes
    return {
        "address": one.address,
        "action": found.done(asked),
        "junk_score": asked.thresholds.junk,
        "refuse_score": asked.thresholds.refuse,
        "greylist": asked.greylist,
        "enforce": asked.enforce,
        "said_by": said,
    }


async def _check(
    config: Config, path: str, sender: str, recipient: str, ip: str, helo: str, asked: Sequence[Wishes]
) -> Received:
    resolver = resolver_of(config)
    # without a client there is nobody to be known
    greylist = Greylist(config.server.data_dir, config.policy.greylist_delay, looks=True) if ip else None
    receiving = Receiver(resolver, policy_settings(config), greylist).begin(ip, helo)
    try:
        if ip:
            receiving.mail_from(sender)
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            content = file.read().replace(b"\r\n", b"\n")
        receiving.feed(content)
        return await receiving.finish(_look(config, Shown(content, b"", sender, [recipient], ip, helo)), asked, content)
    except OSError as error:
        fail(f"{path}: {in_words(error, path)}")
        raise  # not reached: fail ends the command
    finally:
        receiving.close()
        resolver.close()


def _look(config: Config, shown: Shown) -> Look | None:
    """How those who look at the content are asked; None where nobody does."""
    learned = learned_of(config) if config.learning.enabled else None
    told = learned is not None or any(one.per_user for one in config.scanner)
    judge = judge_of(config, learned)
    if judge is None or not judge.wanted(STRANGERS):
        return None

    async def look(field: bytes, verified: str) -> Sequence[Finding]:
        hostname, number = config.server.hostname, trace.new_id()
        front = trace.return_path(shown.sender) + trace.received(
            shown.helo, shown.ip, hostname, "ESMTP", number, shown.recipients[0], host=verified
        )
        owner = _owner(config, shown.recipients[0]) if told else None
        address = owner.address if owner is not None else ""
        seen = replace(shown, front=front + field, host=verified, number=number, hostname=hostname, owner=address)
        try:
            return await judge.look(STRANGERS, seen, owner.id if owner is not None else EVERYBODY)
        finally:
            if learned is not None:
                learned.close()

    return look


def _owner(config: Config, recipient: str) -> Account | None:
    """The one account that the message is for; None where there is none, or several."""
    place = LocalDirectory(config.server.data_dir)
    try:
        accounts = place.resolve(recipient.lower()) if recipient else []
    finally:
        place.close()
    return accounts[0] if len(accounts) == 1 else None


def _row(found: Received) -> dict[str, Any]:
    """For scripts."""
    checks = found.checks
    return {
        "action": found.verdict.action,
        "score": found.verdict.score,
        "enforced": found.enforce,
        "reply": "{} {} {}".format(*found.verdict.reply) if found.verdict.action in ("refuse", "later") else "",
        "override": found.verdict.override,
        "reasons": [{"name": one.name, "score": one.score, "why": one.why} for one in found.verdict.reasons],
        "spf": checks.sender.result if checks.sender is not None else "",
        "dkim": [{"domain": one.domain, "result": one.result, "why": one.why} for one in checks.dkim or ()],
        "dmarc": checks.dmarc.result if checks.dmarc is not None else "",
        "arc": checks.arc.result if checks.arc is not None else "",
        "findings": [{"who": one.who, "said": one.said} for one in checks.findings],
        "field": found.add.decode(),
        "subject_tag": found.tag,
        "lookups": found.asked,
    }
