"""Signatures on messages of our own: where they come, and what the queue is told of them."""

import asyncio
from pathlib import Path

from fastmail.delivery import signing
from fastmail.delivery.reports import Reports, make
from fastmail.directory.memory import MemoryDirectory
from fastmail.policy.signer import Signer
from fastmail.queue.spool import Spool
from tests.support.relaying import HOSTNAME, Outward
from tests.support.signing import keyed, published, verify
from tests.unit.delivery.test_reports import CONTENT, UNDER, Notes, envelope, fate, item, run


def test_a_report_is_signed_behind_its_trace_fields(tmp_path: Path) -> None:
    place = MemoryDirectory()
    place.add_domain("mx.test")
    key = keyed(place, tmp_path, "mx.test")
    made = make(item(), [fate()], CONTENT, UNDER).outgoing
    asyncio.run(signing.put(Signer(place, str(tmp_path)), made, UNDER.hostname, 1))
    content = b"".join(map(bytes, made.content))
    assert [(one.result, one.domain) for one in verify(content, published(key))] == [("pass", "mx.test")]
    assert content.startswith(b"Received: ") and bytes(made.content[1]).startswith(b"DKIM-Signature: ")
    assert made.item.size == len(content) + content.count(b"\n") and made.item.signed == "mx.test"


def test_reports_of_success_are_signed_too(tmp_path: Path) -> None:
    place = MemoryDirectory()
    place.add_domain("example.test")
    key = keyed(place, tmp_path)

    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        out.sign_with(Signer(place, str(tmp_path)))
        await reports.tell_delivered(envelope(), CONTENT, [True])
        ((found, _),) = spool.jobs()
        content.append(await spool.content(found))
        assert found.signed == HOSTNAME and found.size == len(content[0]) + content[0].count(b"\n")

    content: list[bytes] = []
    run(tmp_path / "spool", scenario)
    assert [one.result for one in verify(content[0], published(key))] == ["pass"]


def test_without_a_key_it_stays_as_it_is(tmp_path: Path) -> None:
    for signer in (None, Signer(MemoryDirectory(), str(tmp_path))):
        made = make(item(), [fate()], CONTENT, UNDER).outgoing
        before = list(made.content), made.item.size
        asyncio.run(signing.put(signer, made, UNDER.hostname, 1))
        assert (made.content, made.item.size) == before and made.item.signed == ""
