"""What a host may answer to each command of a message, and what becomes of the message then (RFC 5321 4.2.1, 4.3.2)."""

import asyncio
from collections.abc import Callable

import pytest

from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.smtp.client import (
    ClientTrouble,
    Lost,
    NoChunking,
    ProtocolError,
    Sending,
    Sent,
    SmtpClient,
    Target,
    Timeouts,
    Unsure,
    send,
)
from tests.support import clock
from tests.support.hosts import Teller

EHLO = b"250-far\r\n%b250 HELP\r\n"
DATA, BDAT = [b"PIPELINING"], [b"PIPELINING", b"CHUNKING"]
USUAL = {"DATA": b"354 go on\r\n", "QUIT": b"221 bye\r\n", ".": b"250 2.0.0 taken\r\n", "BDAT": b"250 2.0.0 taken\r\n"}
Answers = dict[str, bytes | Callable[[str], bytes | None] | None]


def told(answers: Answers, extensions: list[bytes]) -> Callable[[str], bytes | None]:
    def answer(line: str) -> bytes | None:
        verb = line.split(" ")[0].upper()
        if verb in ("EHLO", "LHLO"):
            return EHLO % b"".join(b"250-" + one + b"\r\n" for one in extensions)
        found = answers.get(verb, USUAL.get(verb, b"250 2.0.0 ok\r\n"))
        return found(line) if callable(found) else found

    return answer


def sent(
    answers: Answers,
    extensions: list[bytes] = DATA,
    rcpts: int = 1,
    lmtp: bool = False,
    seconds: float = 2.0,
    content: bytes = b"Subject: hi\n\nbody\n",
    utf8: bool = False,
    sender: str = "me@near.test",
    times: int = 1,
) -> tuple[Sent | ClientTrouble, Teller, SmtpClient]:
    """One message (or ``times`` of them) to a host that answers so."""

    async def work() -> tuple[Sent | ClientTrouble, Teller, SmtpClient]:
        host = await Teller(told(answers, extensions)).start()
        target = Target("far", "127.0.0.1", host.port, lmtp, "none")
        client = SmtpClient(target, "near.test", Timeouts(seconds, seconds, seconds))
        recipients = [Rcpt(f"r{n}@far.test") for n in range(rcpts)]
        message = Sending(sender, recipients, content, len(content), not content.isascii(), EsmtpOptions(utf8=utf8))
        try:
            await client.open()
            for _ in range(times):
                found: Sent | ClientTrouble = await send(client, message)
        except ClientTrouble as error:
            found = error
        usable = client.usable
        await client.close()
        await asyncio.sleep(0.05)  # until the host has heard QUIT
        client.ready = usable
        host.stop()
        return found, host, client

    return clock.run(work())


def codes(found: Sent | ClientTrouble) -> list[int]:
    assert isinstance(found, Sent), found
    return [reply.code for reply in found.replies]


@pytest.mark.parametrize("extensions", [DATA, BDAT, [], [b"CHUNKING"]])
def test_a_message_is_taken(extensions: list[bytes]) -> None:
    found, host, client = sent({}, extensions, 2)
    assert codes(found) == [250, 250] and client.ready
    assert b"body" in host.contents[0]


@pytest.mark.parametrize("extensions", [DATA, BDAT, [], [b"CHUNKING"]])
@pytest.mark.parametrize("reply", [b"354 go on", b"350 what?", b"300 x", b"220 hello", b"221 bye", b"235 yes", b"334 "])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", ".", "BDAT"])
def test_only_a_completion_is_a_success(extensions: list[bytes], verb: str, reply: bytes) -> None:
    """354 to the final dot, or to BDAT LAST, is no word about the message; nor is any answer to another question."""
    if verb in (".", "BDAT") and (b"CHUNKING" in extensions) != (verb == "BDAT"):
        return
    found, _, client = sent({verb: reply + b"\r\n"}, extensions)
    assert isinstance(found, ProtocolError) and not client.ready
    assert found.sent == (verb in (".", "BDAT"))


@pytest.mark.parametrize("extensions", [DATA, []])
@pytest.mark.parametrize("reply", [b"250 ok", b"200 x", b"334 x", b"220 x"])
def test_data_wants_an_intermediate_reply(extensions: list[bytes], reply: bytes) -> None:
    found, host, _ = sent({"DATA": reply + b"\r\n"}, extensions)
    assert isinstance(found, ProtocolError) and host.contents == []


def test_codes_that_nobody_knows_are_read_by_their_first_digit() -> None:
    """RFC 5321 4.3.2."""
    assert codes(sent({"MAIL": b"258 ok\r\n", "RCPT": b"251 forwarded\r\n", ".": b"299 ok\r\n"})[0]) == [299]
    assert codes(sent({"RCPT": b"459 later\r\n"})[0]) == [459]
    assert codes(sent({"RCPT": b"559 never\r\n"})[0]) == [559]


@pytest.mark.parametrize("extensions", [DATA, BDAT, [], [b"CHUNKING"]])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
def test_a_reply_too_many_ends_the_connection(extensions: list[bytes], verb: str) -> None:
    """The reply that nobody asked for would be taken for the one to the message."""
    refused = {"BDAT": b"550 5.7.1 no\r\n", ".": b"550 5.7.1 no\r\n"}
    found, _, client = sent({verb: b"250 ok\r\n250 ok\r\n", **refused}, extensions)
    assert isinstance(found, ProtocolError) and not found.sent and not client.ready


def test_an_answer_in_front_of_the_content_ends_the_connection() -> None:
    found, *_ = sent({"DATA": b"354 go on\r\n250 taken\r\n"})
    assert isinstance(found, ProtocolError) and not found.sent


def test_what_comes_behind_the_last_reply_ends_the_session() -> None:
    found, _, client = sent({".": b"250 taken\r\n421 good bye\r\n"})
    assert codes(found) == [250] and not client.ready


def test_a_refusal_of_data_leaves_a_session_for_the_next_message() -> None:
    found, host, client = sent({"DATA": b"451 4.3.0 not now\r\n"})
    assert codes(found) == [451] and client.ready and host.lines[0][-2:] == ["RSET", "QUIT"]
    found, host, client = sent({"MAIL": b"451 4.3.0 not now\r\n", "RCPT": b"503 x\r\n", "DATA": b"503 x\r\n"})
    assert codes(found) == [451] and client.ready


def test_nothing_is_sent_to_recipients_of_a_refused_message() -> None:
    found, host, client = sent({"MAIL": b"451 4.3.0 not now\r\n"}, rcpts=2)
    assert codes(found) == [451, 451] and not client.ready and host.contents == []


@pytest.mark.parametrize("extensions", [BDAT, [b"CHUNKING"]])
@pytest.mark.parametrize("code", [500, 501, 502, 504])
def test_a_host_that_offers_bdat_and_does_not_know_it(extensions: list[bytes], code: int) -> None:
    found, *_ = sent({"BDAT": b"%d what?\r\n" % code}, extensions)
    assert isinstance(found, NoChunking)


@pytest.mark.parametrize("extensions", [DATA, BDAT])
def test_552_after_an_accepted_recipient_is_for_now(extensions: list[bytes]) -> None:
    """RFC 5321 4.5.3.1.10; without an accepted one it is the recipient's own."""

    def rcpt(line: str) -> bytes:
        return b"250 ok\r\n" if "r0@" in line else b"552 5.5.3 too many recipients\r\n"

    found, *_ = sent({"RCPT": rcpt}, extensions, 3)
    assert codes(found) == [250, 452, 452]
    assert codes(sent({"RCPT": b"552 5.2.2 full\r\n"}, extensions, 2)[0]) == [552, 552]


def test_recipients_by_lmtp_that_were_answered_before_the_end_are_settled() -> None:
    found, _, client = sent({".": b"250 one\r\n421 shutting down\r\n"}, rcpts=3, lmtp=True)
    assert codes(found) == [250, 421, 421] and not client.ready
    found, *_ = sent({".": b"250 one\r\n354 what?\r\n"}, rcpts=2, lmtp=True)
    assert codes(found) == [250, 451]
    found, *_ = sent({".": b"250 one\r\n552 5.2.2 full\r\n450 later\r\n"}, rcpts=3, lmtp=True)
    assert codes(found) == [250, 552, 450]


def test_the_end_of_a_connection() -> None:
    for verb in ("MAIL", "RCPT", "DATA"):
        found, *_ = sent({verb: None})
        assert isinstance(found, Lost) and not found.sent
    found, *_ = sent({".": None})
    assert isinstance(found, Unsure) and found.sent
    found, *_ = sent({".": b"421 4.3.2 closing\r\n"})
    assert isinstance(found, Lost) and not found.sent and found.reply is not None


NUMBERS = [b"SIZE 99999999999999999999999", b"SIZE " + b"9" * 5000, "SIZE ²".encode(), b"SIZE -1", b"SIZE x", b"SIZE"]


@pytest.mark.parametrize("line", NUMBERS)
def test_numbers_of_a_stranger(line: bytes) -> None:
    assert codes(sent({}, [line])[0]) == [250]


UTF8_HEADER = "Subject: grün\n\nbody\n".encode()
UTF8_PART = (
    "Subject: hi\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    'Content-Disposition: attachment; filename="grün"\n\nx\n--b--\n'
).encode()
UTF8_BODY = "Subject: hi\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\ngrün\n".encode()


@pytest.mark.parametrize(
    ("content", "sender", "needed"),
    [
        (b"Subject: hi\n\nbody\n", "me@near.test", False),
        (UTF8_BODY, "me@near.test", False),
        (UTF8_HEADER, "me@near.test", True),
        (UTF8_PART, "me@near.test", True),
        (b"Subject: hi\n\nbody\n", "grün@near.test", True),
    ],
)
def test_smtputf8_is_asked_for_where_something_needs_it(content: bytes, sender: str, needed: bool) -> None:
    """RFC 6531 3.4; its sender said SMTPUTF8 in each case."""
    found, host, client = sent({}, [b"8BITMIME"], content=content, utf8=True, sender=sender)
    assert codes(found) == [550 if needed else 250] and client.ready
    assert isinstance(found, Sent) and found.unable == needed
    found, host, _ = sent({}, [b"8BITMIME", b"SMTPUTF8"], content=content, utf8=True, sender=sender)
    assert codes(found) == [250]
    assert ("SMTPUTF8" in next(line for line in host.lines[0] if line.startswith("MAIL"))) == needed


def test_two_messages_on_one_connection() -> None:
    found, host, _ = sent({}, times=2)
    assert codes(found) == [250] and len(host.lines) == 1 and len(host.contents) == 2
