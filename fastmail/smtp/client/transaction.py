"""One mail transaction with a host: MAIL, RCPT, then the content by BDAT or DATA (RFC 5321 3.3, RFC 3030, RFC 2033).

Order of the octets: commands up to DATA go in one write where the host has PIPELINING (RFC 2920 3.1). The content
follows only after every reply before it was read and nothing is left over. So a reply too many is found out before the
host could seem to have taken the message. By LMTP every accepted recipient has a final reply of its own (RFC 2033 4.2).
"""

import asyncio
import time

from fastmail._core import smtp as grammar
from fastmail.message import orcpt as original
from fastmail.message import surrogate
from fastmail.model.esmtp import Rcpt
from fastmail.smtp.client.content import wire
from fastmail.smtp.client.nouns import Sending, Sent
from fastmail.smtp.client.replies import ClientTrouble, Lost, NoChunking, ProtocolError, Reply, Unsure, number
from fastmail.smtp.client.session import SmtpClient, words

BLOCK = 262144  # octets that are written at once; a larger message is made ready beside the event loop
TOO_MANY = 552  # to RCPT: no room for more recipients (RFC 5321 4.5.3.1.10)
UNKNOWN = (500, 501, 502, 504)  # the host does not know BDAT, or not its parameters


async def send(client: SmtpClient, sending: Sending) -> Sent:
    """Send a message to all its recipients. Afterwards ``client.ready`` is True if the next message may follow on the
    same connection. ClientTrouble if the connection cannot be used any more."""
    client.ready = False
    try:
        found = await _send(client, sending)
    except TimeoutError:
        raise Lost(f"{client.target.shown} does not answer") from None
    except OSError as error:
        raise Lost(f"{client.target.shown}: {words(error)}") from None
    if not found.unable:
        client.sent += 1
    return found


async def _send(client: SmtpClient, sending: Sending) -> Sent:
    utf8 = await _needs_utf8(sending)
    refusal = _refusal(client, sending, utf8)
    if refusal is not None:
        client.ready = True
        return Sent([refusal] * len(sending.recipients), unable=True)
    chunking = client.offers("CHUNKING")
    downgrade = sending.eight and not client.offers("8BITMIME")
    if len(sending.content) > BLOCK or (downgrade and sending.anew is not None):
        loop = asyncio.get_running_loop()
        octets = await loop.run_in_executor(None, wire, sending.content, downgrade, chunking, sending.anew)
    else:
        octets = wire(sending.content, downgrade, chunking)
    lines = [_mail(client, sending, utf8), *(_rcpt(client, one, utf8) for one in sending.recipients)]
    mail, rcpts, asked = await _envelope(client, lines, chunking)
    muddled = not mail.ok and any(reply.ok for reply in rcpts)  # it refused the message and took recipients for it
    if not mail.ok:
        rcpts = [mail] * len(sending.recipients)
    rcpts = _without_room(rcpts)
    good = [position for position, reply in enumerate(rcpts) if reply.ok]
    if muddled:
        await client.close(False)  # a final dot might send an empty message to them
        return Sent(rcpts, whole=True)
    if chunking:
        final = await _by_bdat(client, octets, len(good)) if good else []
    else:
        final = await _by_data(client, octets, len(good), asked)
    for position, reply in zip(good, final, strict=False):
        rcpts[position] = reply
    if not final:
        await _reset(client)
    whole = not mail.ok or bool(final)
    return Sent(rcpts, client.offers("DSN"), client.offers("DELIVERBY"), whole=whole)


async def _needs_utf8(sending: Sending) -> bool:
    """True when the message can only go where SMTPUTF8 is: an address or a header has characters beyond ASCII. That
    its sender said SMTPUTF8 is no need by itself (RFC 6531 3.4)."""
    if not all(one.isascii() for one in (sending.sender, *(one.address for one in sending.recipients))):
        return True
    if not sending.options.utf8:
        return False
    if len(sending.content) > BLOCK:
        return await asyncio.get_running_loop().run_in_executor(None, surrogate.needs_utf8, sending.content)
    return surrogate.needs_utf8(sending.content)


def _refusal(client: SmtpClient, sending: Sending, utf8: bool) -> Reply | None:
    """Return why the host cannot take the message, as far as its EHLO reply tells; None if it can."""
    shown = client.target.shown
    if utf8 and not client.offers("SMTPUTF8"):
        return Reply(550, "5.6.7", f"{shown} does not offer SMTPUTF8, which this message needs")
    if sending.options.require_tls and sending.sender and not (client.tls and client.offers("REQUIRETLS")):
        return Reply(550, "5.7.30", f"{shown} does not offer REQUIRETLS, which this message needs")
    if sending.options.returns:
        left = sending.options.by - int(time.time())
        if left <= 0 or left < number(client.value("DELIVERBY")):
            return Reply(550, "5.4.7", "its time of delivery is over")
        if not client.offers("DELIVERBY"):
            return Reply(550, "5.3.3", f"{shown} does not offer DELIVERBY, which this message needs")
    most = number(client.value("SIZE"))
    if 0 < most < sending.size:
        return Reply(552, "5.3.4", f"message is too big for {shown}: {most} octets is its most")
    return None


async def _envelope(client: SmtpClient, lines: list[bytes], chunking: bool) -> tuple[Reply, list[Reply], bool]:
    """Send MAIL and RCPT. Returns (the reply to MAIL, the replies to RCPT, True if DATA was written too)."""
    seconds = client.timeouts.command
    words = ["MAIL", *["RCPT"] * (len(lines) - 1)]
    replies: list[Reply] = []
    if not client.offers("PIPELINING"):
        for word, line in zip(words, lines, strict=True):
            client.write(line + b"\r\n")
            replies.append(await client.answer(word, seconds))
            if not replies[0].ok:
                break
        return replies[0], replies[1:], False
    batch = lines if chunking else [*lines, b"DATA"]
    client.write(b"\r\n".join(batch) + b"\r\n")
    for word in words:
        replies.append(await client.answer(word, seconds))
    return replies[0], replies[1:], not chunking


def _without_room(rcpts: list[Reply]) -> list[Reply]:
    """The replies to RCPT, where a 552 after one that was accepted means "not more at once": it is for now, and the
    rest goes in the next transaction (RFC 5321 4.5.3.1.10)."""
    out: list[Reply] = []
    accepted = False
    for reply in rcpts:
        accepted = accepted or reply.ok
        room = reply.code != TOO_MANY or not accepted
        out.append(reply if room else Reply(452, "4.5.3", reply.text))
    return out


async def _by_bdat(client: SmtpClient, octets: bytes, good: int) -> list[Reply]:
    """The whole content as the last chunk (RFC 3030 2); a final reply for each accepted recipient."""
    client.write(b"BDAT %d LAST\r\n" % len(octets))
    final = await _content(client, octets, good, "BDAT")
    if final and final[0].code in UNKNOWN:
        raise NoChunking(f"{client.target.shown} answers BDAT with {final[0]}", final[0])
    return final


async def _by_data(client: SmtpClient, octets: bytes, good: int, asked: bool) -> list[Reply]:
    """The content after DATA; ``asked``: DATA was written before. A final reply for each accepted recipient, none when
    there is no such recipient."""
    if not asked:
        if not good:
            return []
        client.write(b"DATA\r\n")
    begun = await client.answer("DATA", client.timeouts.command)
    if begun.code // 100 != 3:
        if good:
            await _reset(client)
        return [begun] * good
    if client.unread:
        raise ProtocolError(f"{client.target.shown} sends replies that nobody asked for")
    if not good:
        client.write(b".\r\n")  # the host takes nothing for nobody
        await client.reply(client.timeouts.data)
        return []
    return await _content(client, octets, good, ".")


async def _content(client: SmtpClient, octets: bytes, good: int, command: str) -> list[Reply]:
    """Write the content, and read what the host says to it. Unsure when that is nothing. By LMTP, recipients that the
    host answered for before the connection broke have their result; the others are tried again."""
    final: list[Reply] = []
    await client.write_all(octets, BLOCK)  # what goes wrong here leaves the host without the end of it
    try:
        while len(final) < (good if client.target.lmtp else 1):
            final.append(await client.answer(command, client.timeouts.data))
    except (ClientTrouble, OSError, TimeoutError) as error:
        trouble = _after_content(client, error)
        if not final:
            raise trouble from None
        return final + [trouble.reply or Reply(451, "4.4.2", str(trouble))] * (good - len(final))
    client.ready = True
    return final if client.target.lmtp else final * good


def _after_content(client: SmtpClient, error: Exception) -> ClientTrouble:
    """The same trouble, as one after which the host may have the message, unless it said that it does not."""
    shown = client.target.shown
    if isinstance(error, TimeoutError):
        return Unsure(f"{shown} does not answer for the message; it may have it", sent=True)
    if isinstance(error, Lost) and error.reply is not None:
        return error
    if isinstance(error, ProtocolError):
        return ProtocolError(str(error), error.reply, sent=True)
    return Unsure(f"{error}; it may have the message", sent=True)


async def _reset(client: SmtpClient) -> None:
    """Forget the transaction (RFC 5321 4.1.1.5), so that the next one may follow. What the host said of this one
    stands, even when it ends the connection now."""
    try:
        client.ready = (await client.ask("RSET", "RSET")).ok
    except (ClientTrouble, OSError, TimeoutError):
        client.ready = False


def _mail(client: SmtpClient, sending: Sending, utf8: bool) -> bytes:
    options = sending.options
    line = f"MAIL FROM:<{sending.sender}>"
    if client.offers("SIZE"):
        line += f" SIZE={sending.size}"
    if sending.eight and client.offers("8BITMIME"):
        line += " BODY=8BITMIME"
    if utf8:
        line += " SMTPUTF8"
    if options.require_tls and client.tls and client.offers("REQUIRETLS"):
        line += " REQUIRETLS"
    if options.by and client.offers("DELIVERBY"):
        line += f" BY={options.by - int(time.time())};{options.by_mode}"
    if options.priority and client.offers("MT-PRIORITY"):
        line += f" MT-PRIORITY={options.priority}"
    if client.offers("DSN"):
        if options.ret:
            line += f" RET={options.ret}"
        if options.envid:
            line += " ENVID=" + grammar.to_xtext(options.envid.encode()).decode()
    return line.encode()


def _rcpt(client: SmtpClient, one: Rcpt, utf8: bool) -> bytes:
    line = f"RCPT TO:<{one.address}>"
    if client.offers("DSN"):
        if one.notify:
            line += f" NOTIFY={one.notify}"
        if one.orcpt:
            line += f" ORCPT={original.wire(one.orcpt, utf8)}"
    return line.encode()
