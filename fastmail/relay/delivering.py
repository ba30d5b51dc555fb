"""Works off one job of the queue: sends the message to the hosts of its destination, to a program, or to mailboxes
here; then the result is settled (relay.outcomes).

Promise: an attempt is settled, or repeated from the same state: a crash repeats it at most. An error of this server's
own disk raises MailError or OSError and leaves the job unchanged.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from fastmail.delivery import forward
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope, Held, Named
from fastmail.delivery.forward import Forward
from fastmail.delivery.lists.engine import Lists
from fastmail.delivery.lists.one_click import Copies, OneClick
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.lookup import Destinations
from fastmail.dns.resolver import NoSuchDomain, NullMx
from fastmail.model.errors import CorruptData, DamagedAccount, MailError
from fastmail.policy.sealing import Sealer
from fastmail.policy.signer import Signer
from fastmail.queue.model import LOCAL, Item, Job, number_of
from fastmail.queue.routes import Hop, Routes
from fastmail.queue.spool import Spool
from fastmail.relay import attempt, pipe
from fastmail.relay.connecting import Connector, Down
from fastmail.relay.outcomes import Expired, Outcomes, Said, final_reply
from fastmail.relay.scheduling import Destination, Scheduler
from fastmail.relay.targets import Loops, NoTls
from fastmail.smtp.client import Reply, Sending, SmtpClient
from fastmail.telemetry import log

PER_CONNECTION = 200  # messages


@dataclass(slots=True)
class Deliveries:
    """Delivers the jobs of a runner. ``seconds``: the time that a program may take; ``signer``: makes our signatures
    anew where a host needs other octets; ``sealer``: puts our ARC set on what is forwarded; ``one_click``: gives each
    copy of a list's message the web address by which its member leaves."""

    spool: Spool
    routes: Routes
    deliverer: Deliverer
    connector: Connector
    scheduler: Scheduler
    outcomes: Outcomes
    seconds: float
    lists: Lists
    signer: Signer | None = None
    sealer: Sealer | None = None
    one_click: OneClick | None = None

    async def deliver(self, destination: Destination, job: Job, client: SmtpClient | None) -> SmtpClient | None:
        """Work off one job and settle it.

        ``client``: an open session with a host of the destination, or None. Returns the session for the next job."""
        found = await self._found(job)
        if found is None:
            return client
        item, content = found
        said = self.outcomes.known(job)
        if said is not None:
            await self.outcomes.settle(job, item, said, content)
            return client
        if await self._stopped(job, item, content):
            return client
        if item.mailing_list and not item.verp:
            await self.lists.step(job, item, content)
        elif destination.name == LOCAL:
            await self._here(job, item, content)
        elif (hop := self.routes.of(destination.name).hop) is not None and hop.kind == "pipe":
            await self._pipe(job, item, content, hop)
        elif item.verp:
            return await self._each(destination, job, item, content, client)
        else:
            return await self._attempt(destination, job, item, content, client)
        return client

    async def _stopped(self, job: Job, item: Item, content: bytes) -> bool:
        """True if the message may not be sent now because of its sender (relay.suspicion); then that is settled."""
        watch = self.outcomes.watch
        if watch is None:
            return False
        try:
            stops = watch.stops(item)
        except DamagedAccount as error:
            log.event("relay.sender", "error", id=item.number, login=item.login, why=error)
            unknown = Reply(451, "4.3.0", "whether its sender may send cannot be known now")
            await self.outcomes.settle_all(job, item, unknown, content)
            return True
        if stops:
            await watch.hold(job, item)
        return stops

    async def _found(self, job: Job) -> tuple[Item, bytes] | None:
        """Return the job's message and its content. None when the message is missing or damaged; the job is settled
        then."""
        try:
            item = self.spool.item(job.item)
        except CorruptData as error:
            addresses = [one.address for one in job.recipients]
            log.event("queue.damaged", "error", id=number_of(job.item), error=error, recipients=addresses)
            item = None
        if item is None:
            await self.spool.change(job.key, lambda old: None)
            return None
        try:
            return item, await self.spool.content(item)
        except CorruptData as error:
            log.event("queue.damaged", "error", id=item.number, error=error)
            lost = Reply(554, "5.3.0", "the message was damaged on this server")
            await self.outcomes.settle_all(job, item, lost, b"Subject: (damaged)\n\n")
            return None

    async def _attempt(
        self, destination: Destination, job: Job, item: Item, content: bytes, client: SmtpClient | None
    ) -> SmtpClient | None:
        """Send one message to the hosts of a destination; returns the connection for the next one."""
        sender = await self._sender(item)
        sending = Sending(sender, job.recipients, content, item.size, item.eight, item.options, self._anew(item))
        try:
            if item.options.expired(time.time()):
                raise Expired
            if client is None or not client.usable:
                client = await self.connector.kept(destination.name)
            done = await attempt.run(self.connector, destination.name, sending, client)
        except (NoSuchDomain, NullMx, Loops, Expired, NoTls) as error:
            await self.outcomes.settle_all(job, item, final_reply(error), content)
            return client if isinstance(error, Expired) else None
        except Down as down:
            self.scheduler.set_down(destination, str(down))
            await self.outcomes.settle_all(job, item, Reply(451, "4.4.1", str(down)), content)
            return None
        self.scheduler.learn(destination, done)
        try:
            await self.outcomes.settle(job, item, done.said, content)
        except (MailError, OSError):
            if done.client is not None and done.client is not client:
                await done.client.close()  # nobody else would close it
            raise
        if done.client is not None and done.client.sent >= PER_CONNECTION:
            await done.client.close()
            return None
        return done.client

    def _anew(self, item: Item) -> Callable[[bytes], bytes] | None:
        """What signs a message again for a host that takes 7 bits only; None where it will not be needed."""
        return self.signer.again(item.signed) if self.signer is not None and item.signed and item.eight else None

    async def _sender(self, item: Item) -> str:
        """The reverse-path that hosts get to see: with a tag, where the domain of the sender wants that."""
        batv = self.deliverer.batv
        if batv is None or not batv.tags(item.sender):
            return item.sender
        await asyncio.get_running_loop().run_in_executor(None, batv.prepare)
        return batv.tagged(item.sender)

    async def _backs(self, item: Item) -> Callable[[str], str]:
        """What tells the reverse-path of a copy from its recipient. Mail of a list has one for each member, so that the
        list knows whose mail comes back; other mail has one for all."""
        if not item.verp:
            sender = await self._sender(item)
            return lambda recipient: sender
        tokens = Tokens(self.deliverer.directory)
        await asyncio.get_running_loop().run_in_executor(None, tokens.prepare)
        return lambda recipient: tokens.bounces(item.mailing_list, recipient)

    async def _each(
        self, destination: Destination, job: Job, item: Item, content: bytes, client: SmtpClient | None
    ) -> SmtpClient | None:
        """A message of a mailing list to the hosts of a destination: a mail transaction for each member, whose
        reverse-path, and where this server has a web address the way to leave the list, are its own. The job is settled
        once, for all of them."""
        loop = asyncio.get_running_loop()
        back, copies = await self._backs(item), await self._copies(item, content)
        copy, size, anew = content, item.size, self._anew(item)
        said: list[Said] = []
        given = client
        try:
            for rcpt in job.recipients:
                if copies is not None:
                    copy, size = await loop.run_in_executor(None, copies.whole, rcpt.address)
                sending = Sending(back(rcpt.address), [rcpt], copy, size, item.eight, item.options, anew)
                if client is None or not client.usable or client.sent >= PER_CONNECTION:
                    if client is not None and client is not given:
                        await client.close()
                    client = await self.connector.kept(destination.name)
                done = await attempt.run(self.connector, destination.name, sending, client)
                self.scheduler.learn(destination, done)
                said += done.said
                client = done.client
        except (NoSuchDomain, NullMx, Loops, NoTls) as error:
            said += [Said(final_reply(error))] * (len(job.recipients) - len(said))
            client = None
        except Down as down:
            self.scheduler.set_down(destination, str(down))
            said += [Said(Reply(451, "4.4.1", str(down)))] * (len(job.recipients) - len(said))
            client = None
        except (MailError, OSError):
            if not said:
                raise
            said += [Said(Reply(451, "4.3.0", "local trouble"))] * (len(job.recipients) - len(said))
            client = None  # what others have is settled, or they would have it again
        try:
            await self.outcomes.settle(job, item, said, content)
        except (MailError, OSError):
            if client is not None and client is not given:
                await client.close()  # nobody else knows of it
            raise
        if client is not None and client.sent >= PER_CONNECTION:
            await client.close()
            return None
        return client

    async def _copies(self, item: Item, content: bytes) -> Copies | None:
        """The copies of a list's message, each with its member's link; None where all members have the same."""
        if self.one_click is None or not item.verp:
            return None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.one_click.prepare)
        return await loop.run_in_executor(None, self.one_click.copies, item, content)

    async def _here(self, job: Job, item: Item, content: bytes) -> None:
        """Deliver to recipients of this server."""
        if item.options.expired(time.time()):
            await self.outcomes.settle_all(job, item, final_reply(Expired()), content)
            return
        envelope = Envelope(item.sender, helo=item.helo, peer=item.peer, protocol=item.protocol, places=item.places)
        replies: dict[str, Reply] = {}
        there: dict[str, Destinations] = {}
        for rcpt in job.recipients:
            try:
                found = forward.here(self.deliverer, item, rcpt.address)
                there[rcpt.address] = found = forward.kept_back(self.deliverer, item, rcpt.address, found)
            except DamagedAccount as error:
                log.event("relay.recipient", "error", address=rcpt.address, why=error)
                replies[rcpt.address] = Reply(451, "4.3.0", "the mailbox cannot be reached now")
                continue
            if found.lists and item.mailing_list:  # accounts that have the same address as the list get it too
                there[rcpt.address] = found = msgspec.structs.replace(found, lists=())
            if found.accounts:
                envelope.recipients.append((rcpt.address, found.accounts))
            elif found.queued:
                replies[rcpt.address] = Reply(250, "2.0.0", "forwarded")
            else:
                replies[rcpt.address] = _nobody(found)
        copies = await self._copies(item, content)
        if copies is not None:
            members = [address for address, _ in envelope.recipients]
            envelope.fronts = await asyncio.get_running_loop().run_in_executor(None, copies.fronts, members)
        if envelope.recipients:
            held = Held(item.hold, item.shared_with, item.skip, item.arrived) if item.hold else None
            named = Named(item.number, item.transaction, held)
            text = content if copies is None else copies.text
            outcomes = await self.deliverer.deliver(envelope, text, item.mailbox or "INBOX", named)
            for (address, _), one in zip(envelope.recipients, outcomes, strict=True):
                replies[address] = Reply(one.code, one.enhanced, one.text)
        lists = [one for found in there.values() for one in found.lists]
        done = False
        try:
            forwards = await self._forwards(job, item, content, there, replies, copies)
            await self._settle_here(job, item, content, there, replies, forwards)
            done = True
        finally:
            if lists:
                await self.lists.settled(item, content, lists, done)

    async def _settle_here(
        self,
        job: Job,
        item: Item,
        content: bytes,
        there: dict[str, Destinations],
        replies: dict[str, Reply],
        forwards: list[Forward],
    ) -> None:
        """Write down what became of recipients of this server."""
        # A recipient whose mail was only forwarded causes no report of success: whether it is delivered is not known
        # yet.
        said = [
            Said(replies[rcpt.address], dsn=rcpt.address in there and not there[rcpt.address].accounts)
            for rcpt in job.recipients
        ]
        await self.outcomes.settle(job, item, said, content, forwards)

    async def _forwards(
        self,
        job: Job,
        item: Item,
        content: bytes,
        there: dict[str, Destinations],
        replies: dict[str, Reply],
        copies: Copies | None,
    ) -> list[Forward]:
        """Return the messages that the recipients make, to other hosts and to lists; to a list one. A recipient
        that is tried again makes none yet. ``copies``: of a list's message, each member's own."""
        leaving = [
            rcpt
            for rcpt in job.recipients
            if rcpt.address in there and there[rcpt.address].queued and not replies[rcpt.address].temporary
        ]
        if not leaving:
            return []
        if self.deliverer.srs is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.deliverer.srs.prepare)
        seal = await self.sealer.seal(content) if self.sealer is not None and item.checked else b""
        forwarding = forward.Forwarding(self.deliverer, self.routes, self.spool.new_id)
        out: list[Forward] = []
        back = await self._backs(item) if item.verp else None
        for rcpt in leaving:
            mine, text = item, content
            if back is not None:
                mine = replace(item, sender=back(rcpt.address))
            if copies is not None:
                text, size = await asyncio.get_running_loop().run_in_executor(None, copies.whole, rcpt.address)
                mine = replace(mine, size=size)
            out += forwarding.of(mine, rcpt, text, there[rcpt.address].elsewhere, seal)
        posted: set[str] = set()  # an alias may lead to a list that is a recipient itself
        for rcpt in leaving:
            fresh = [one for one in there[rcpt.address].lists if one.part or one.row.address not in posted]
            posted |= {one.row.address for one in fresh if not one.part}
            out += await self.lists.of(item, rcpt, content, fresh)
        return out

    async def _pipe(self, job: Job, item: Item, content: bytes, hop: Hop) -> None:
        """Deliver to recipients whose mail goes to a program."""
        back, copies = await self._backs(item), await self._copies(item, content)
        said = []
        for rcpt in job.recipients:
            text = content
            if copies is not None:
                text, _ = await asyncio.get_running_loop().run_in_executor(None, copies.whole, rcpt.address)
            reply = await pipe.run(hop, back(rcpt.address), rcpt.address, item.number, text, self.seconds)
            said.append(Said(reply))
        await self.outcomes.settle(job, item, said, content)


def _nobody(found: Destinations) -> Reply:
    """The reply for an address that leads to nobody now. Mail for a domain that is off for a while waits for it."""
    code, enhanced, text = found.refusal.split(" ", 2)
    return Reply(int(code), enhanced, text)
