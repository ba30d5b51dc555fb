"""One attempt: sends a message to the hosts of its destination until each recipient has a final answer for now.

When a host ends the session or accepts nothing for now, the attempt goes on: recipients that it did not accept go to
the next host (RFC 5321 5.1), up to ``connecting.SESSIONS`` hosts. A connection that took messages before and turns out
to be closed costs nothing: a new one is opened at once. It is different when a connection breaks after the content was
sent: the host may have the message, and giving it to another host could deliver it twice (RFC 5321 6.1). Then the
message waits for its next attempt, which tries that host last.
"""

from dataclasses import dataclass, field, replace

from fastmail.model.errors import MailError
from fastmail.relay.connecting import Connector, Down, Hosts
from fastmail.relay.outcomes import Said
from fastmail.smtp.client import ClientTrouble, ConnectFailed, NoChunking, Reply, Sending, SmtpClient, send
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

CLOSING = 421  # the host is shutting down, or wants no more connections (RFC 5321 3.8)
LOGIN_CODES = (530, 534, 535, 538)  # the host wants another login than the route has (RFC 4954 6)


@dataclass(slots=True)
class Attempt:
    """The result of an attempt.

    ``said``: the answer for each recipient, in their order; ``client``: an open connection for the next message;
    ``broken``: the session failed as a whole, not single recipients; ``closing``: a new connection was answered with
    421."""

    said: list[Said] = field(default_factory=list)
    client: SmtpClient | None = None
    broken: bool = False
    closing: bool = False

    @property
    def accepted(self) -> bool:
        return any(one.reply.ok for one in self.said)

    @property
    def put_off(self) -> bool:
        """True when nothing was accepted, and something may be accepted later."""
        return not self.accepted and any(one.reply.temporary for one in self.said)


async def run(connector: Connector, destination: str, sending: Sending, client: SmtpClient | None) -> Attempt:
    """Send a message to its recipients. ``client``: an open connection that took other messages, or None.

    Raises Down when no host could be asked at all; NoSuchDomain, NullMx, Loops and NoTls come from the search for
    hosts."""
    work = _Work(connector, destination, sending)
    try:
        if client is not None:
            await work.ask(client, reused=True)
        while work.left and not work.over:
            try:
                found = await work.next()
            except (MailError, Down):
                if work.heard:
                    break  # answers that hosts already gave for other recipients remain valid
                raise
            if found is None:
                break
            await work.ask(found, reused=False)
        return work.result()
    except BaseException:
        await work.close()
        raise


class _Work:
    """The state of one attempt. ``left``: positions of the recipients that another host may accept."""

    def __init__(self, connector: Connector, destination: str, sending: Sending) -> None:
        self.left = list(range(len(sending.recipients)))
        self.over = False
        self.heard = False  # True once a host has answered about the message
        self._hosts: Hosts | None = None
        self._asked: set[tuple[str, int]] = set()
        self._connector = connector
        self._destination = destination
        self._sending = sending
        self._said: dict[int, Said] = {}
        self._unable: dict[int, Said] = {}
        self._out = Attempt()

    async def next(self) -> SmtpClient | None:
        """Return a session with the next host; None when all were asked. When none could be reached at all: Down, or
        what the search for hosts raises."""
        if self._hosts is None:
            self._hosts = await self._connector.hosts(self._destination)
            self._hosts.skip(self._asked)
        found = await self._hosts.next()
        if found is None and not self._hosts.sessions and not self.heard:
            raise self._hosts.exhausted()
        return found

    async def ask(self, client: SmtpClient, reused: bool) -> None:
        """Give a host the recipients that are left, and note its answers.

        ``reused``: the connection took messages before, so an error on it does not count against the host, and the host
        is asked again on a new connection."""
        memory, target = self._connector.memory, client.target
        part = replace(self._sending, recipients=[self._sending.recipients[at] for at in self.left])
        try:
            sent = await send(client, part)
        except NoChunking as error:
            await client.close(False)
            memory.avoid(target, "CHUNKING")
            await self._without_chunking(client, error)
            return
        except ClientTrouble as error:
            await client.close(False)
            self._broken(client, error, reused)
            return
        except BaseException:  # the server stops, or has a bug: nobody else would close this connection
            await client.close(False)
            raise
        if sent.unable:
            self._asked.add((target.address, target.port))
            self.heard = True
            for at, reply in zip(self.left, sent.replies, strict=True):
                self._unable[at] = Said(reply, target.shown, client.tls)
            await self._put_back(client)
            return
        self.heard = True
        asked = len(self.left)
        for at, reply in zip(self.left, sent.replies, strict=True):
            if target.route:
                reply = _of_operator(self._destination, reply)
            self._said[at] = Said(reply, target.shown, client.tls, sent.dsn, sent.by)
        self.left = [at for at in self.left if self._said[at].reply.temporary]
        if any(reply.ok for reply in sent.replies):
            memory.succeeded(target)
        if sent.whole and len(self.left) == asked:  # the host accepts no message now, or none on this connection
            await client.close()
            if not reused:
                memory.failed(target)
                self._out.broken = True
            return
        self._asked.add((target.address, target.port))
        await self._put_back(client)

    async def _without_chunking(self, client: SmtpClient, error: NoChunking) -> None:
        """Ask the same host again, on a new connection and with DATA."""
        try:
            again = await self._connector.open(self._destination, client.target)
        except ConnectFailed as failed:
            self._broken(client, failed, False)
            return
        if again.offers("CHUNKING"):  # another host answered: this one was remembered as one to use without CHUNKING
            await again.close()
            self._broken(client, error, False)
            return
        await self.ask(again, reused=False)

    def _broken(self, client: SmtpClient, error: ClientTrouble, reused: bool) -> None:
        said = error.reply
        reply = said if said is not None and said.temporary else Reply(451, "4.4.2", str(error))
        for at in self.left:
            self._said[at] = Said(reply, client.target.shown, client.tls)
        if error.sent:
            self.over = True
        elif reused:
            return
        self._connector.memory.failed(client.target)
        self._out.broken = True
        self._out.closing = said is not None and said.code == CLOSING

    async def _put_back(self, client: SmtpClient) -> None:
        """Keep a connection for the next message, at most one."""
        if client.usable and self._out.client is None:
            self._out.client = client
        else:
            await client.close()

    async def close(self) -> None:
        """Close the connection that was kept."""
        if self._out.client is not None:
            await self._out.client.close()

    def result(self) -> Attempt:
        """Give every recipient one answer.

        That a host lacks an extension which the message needs is final only when no other host answered anything else,
        and none was unreachable."""
        for at, said in self._unable.items():
            if at in self._said:
                continue
            if self._hosts is not None and self._hosts.trouble is not None:
                words = f"{said.reply.text}; another host: {self._hosts.trouble}"
                said = Said(Reply(451, "4.4.1", words), said.host, said.tls)
            self._said[at] = said
        self._out.said = [self._said[at] for at in range(len(self._sending.recipients))]
        return self._out


def _of_operator(destination: str, reply: Reply) -> Reply:
    """A host that the administrator chose refuses the route's login: the configuration has to be corrected, so the mail
    waits instead of bouncing."""
    if reply.code not in LOGIN_CODES:
        return reply
    count("relay.route_trouble")
    log.event("relay.route", "error", destination=destination, error=reply, then="its mail waits")
    return Reply(454, "4.7.0", reply.text)
