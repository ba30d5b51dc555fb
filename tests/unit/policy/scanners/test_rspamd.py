"""rspamd: what goes there, and what its actions and fields mean here."""

import json
from typing import Any

import pytest

from fastmail.message.text import decode_value
from fastmail.policy.scanners import rspamd, wire
from fastmail.policy.scanners.nouns import Shown, Trouble
from tests.support.scanning import MESSAGE, ask, scanner


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def said(**answer: Any) -> Any:
    return rspamd.finding(scanner("rspamd", "x:1"), json.dumps({"action": "no action", **answer}).encode())


@pytest.mark.parametrize("singly", [False, True])
def test_an_answer(singly: bool) -> None:
    answer = {
        "is_skipped": False,
        "score": 7.25,
        "required_score": 15.0,
        "action": "add header",
        "symbols": {"BIG": {"name": "BIG", "score": 7.0, "options": ["x"]}, "SMALL": {"name": "SMALL", "score": 0.25}},
        "messages": {},
        "message-id": "x@y",
        "time_real": 0.1,
    }
    shown = {"front": b"Received: x\n", "sender": "joe@example.org", "recipients": ["a@b.test", "c@b.test"],
             "ip": "192.0.2.1", "helo": "mail\r\nX: \u20ac", "host": "mail.example.org", "login": "me", "number": "ABC"}  # fmt: skip
    found, there = ask("rspamd", http(json.dumps(answer).encode()), "http", singly=singly, **shown)
    assert (found.action, found.said, found.always) == ("junk", "add header 7.25", False)
    assert (found.reasons[0].score, found.reasons[0].why) == (7.25, "add header, 7.25: BIG SMALL")
    head, _, sent = there.heard[0].partition(b"\r\n\r\n")
    assert sent == b"Received: x\n" + MESSAGE
    assert head.decode().split("\r\n") == [
        "POST /checkv2 HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(sent)}",
        "From: joe@example.org",
        "Rcpt: a@b.test",
        "Rcpt: c@b.test",
        "IP: 192.0.2.1",
        "Helo: mail??X: ?",
        "Hostname: mail.example.org",
        "User: me",
        "Queue-Id: ABC",
    ]


@pytest.mark.parametrize(
    ("action", "ours", "reply"),
    [
        ("no action", "accept", 250),
        ("greylist", "accept", 250),
        ("add header", "junk", 250),
        ("rewrite subject", "junk", 250),
        ("quarantine", "quarantine", 554),
        ("soft reject", "later", 451),
        ("reject", "refuse", 554),
        ("discard", "quarantine", 554),
        ("of my own", "accept", 250),
    ],
)
def test_actions(action: str, ours: str, reply: int) -> None:
    found = said(action=action)
    assert (found.action, found.reply[0], found.suspect) == (ours, reply, action == "greylist")


@pytest.mark.parametrize(
    ("subject", "ours"),
    [
        ("[SPAM] x", "[SPAM] x"),
        ("a\r\nBcc: b", "a Bcc: b"),
        ("Gr\u00fc\u00dfe", "=?utf-8?b?R3LDvMOfZQ==?="),
        ("", ""),
    ],
)
def test_a_subject_is_rewritten_by_setting(subject: str, ours: str) -> None:
    answer = {"action": "rewrite subject", "subject": subject}
    found = rspamd.finding(scanner("rspamd", "x:1", rewrite_subject=True), json.dumps(answer).encode())
    assert found.action == "junk"
    assert (found.add, found.remove) == (((("Subject", ours),), ((b"subject", 0),)) if ours else ((), ()))
    assert said(**answer).add == () == said(**answer).remove, "signatures cover it"
    other = {"action": "add header", "subject": subject}
    assert rspamd.finding(scanner("rspamd", "x:1", rewrite_subject=True), json.dumps(other).encode()).add == ()


def test_a_long_subject_stays_a_header() -> None:
    answer = {"action": "rewrite subject", "subject": "\u20ac" * 999}
    ((_, value),) = rspamd.finding(scanner("rspamd", "x:1", rewrite_subject=True), json.dumps(answer).encode()).add
    assert value.isascii() and all(len(word) <= 75 for word in value.split(" "))
    assert decode_value(value.encode()) == "\u20ac" * 200


def test_its_words_for_the_sender_are_cut_down() -> None:
    found = said(action="reject", messages={"smtp_message": "Go\r\n250 away\u20ac " + "x" * 999})
    assert found.reply[2].startswith("Go??250 away? x") and len(found.reply[2]) <= 200
    assert said(action="soft reject", messages=[]).reply == (451, "4.7.1", "try again later")


def test_fields_that_it_adds_and_removes() -> None:
    found = said(
        milter={
            "add_headers": {
                "X-Spamd-Bar": "+++",
                "X-Many": [{"value": "one", "order": 0}, {"value": "two"}],
                "X-Folded": {"value": "a\r\n\tb\u20ac"},
                "X Bad": "x",
                "X-Bad:": "x",
                "Received": "x",
                "authentication-results": "mx; dkim=pass",
                "From": "x",
                "X-None": {"order": 1},
            },
            "remove_headers": {"X-Old": 0, "X-Last": -1, "Bad Name": 0, "from": 0},
        }
    )
    assert found.add == (("X-Spamd-Bar", "+++"), ("X-Many", "one"), ("X-Many", "two"), ("X-Folded", "a b?"))
    assert found.remove == ((b"x-old", 0), (b"x-last", -1))
    many = said(milter={"add_headers": {"X": ["v" * 9999] * 500}})
    assert len(many.add) == 20 and all(len(value) <= 2000 for _, value in many.add)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        http(b""),
        http(b"{}"),
        http(b"[]"),
        http(b'{"action": 1}'),
        http(b'{"action": "reject", "score": "x"}'),
        http(b'{"action": "reject"'),
        http(b"[" * 100_000),
        http(b'{"action": "no action"}', "403 Unauthorized"),
        http(b" " * (wire.ANSWER + 1)),
        http(b'{"action": "reject"}')[:-1],
        b"SPAMD/1.1 0 EX_OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
    ],
)
def test_anything_else_is_no_answer(answer: bytes) -> None:
    with pytest.raises((Trouble, OSError)):
        ask("rspamd", answer, "http")


def test_what_peers_say_starts_no_field() -> None:
    nasty = "x\r\nPass: all\n\0\x7f\u2028"
    shown = Shown(MESSAGE, b"", nasty, [nasty] * 500, nasty, nasty, nasty, nasty, nasty, nasty)
    head = rspamd.head(shown)
    assert head.count(b"\r\n") == 1 + 3 + 1 + 100 + 6 + 1 and head.isascii()
    assert b"\nPass" not in head
