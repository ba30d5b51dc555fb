"""Recipients that want mail judged in their own ways, in one transaction (RFC 5321 4.1.1.4, 4.5.1)."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.delivery.history import History
from fastmail.delivery.quarantine import Quarantine
from fastmail.directory.named import book
from fastmail.directory.records import Domain
from fastmail.dns.memory import MemoryResolver
from fastmail.policy.greylist import Greylist
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.verdict import Thresholds
from tests.support.notes import Noting
from tests.support.sessions import USER, Bench
from tests.support.signing import MESSAGE, key, published, signed
from tests.unit.policy.test_receive import ZONE

OTHER, TEAM = "other@example.test", "team@example.test"
NEAR, FAR = "192.0.2.1", "198.51.100.9"  # the first may send for example.org, and the second may not


class Sending:
    """One message to some recipients. ``replies``: those to RCPT; ``end``: that to the content; ``boxes``: where each
    account has it; ``filters``: what the trace says."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.end = ""
        self.boxes: dict[str, list[str]] = {}
        self.filters = ""


class Noted(Noting, History):
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def note(self, ident: str, what: str, words: Iterable[str] = (), /, **fields: Any) -> None:
        self.events.append({"what": what, **fields})


def send(
    path: Path,
    *to: str,
    content: bytes = MESSAGE,
    host: str = FAR,
    settings: dict[str, Any] | None = None,
    domain: Domain | None = None,
    greylist: Greylist | None = None,
    quarantine: Quarantine | None = None,
    **accounts: dict[str, Any],
) -> Sending:
    """``accounts``: fields of user and other."""
    out = Sending()

    async def main() -> None:
        policy = Receiver(
            MemoryResolver({**ZONE, **published(key())}), Settings("mx.example.test", **(settings or {})), greylist
        )
        bench = Bench(str(path), outbound={"policy": policy, "quarantine": quarantine})
        history = bench.deliverer.history = Noted()
        if domain is not None:
            bench.directory.domains[domain.name] = domain
        for name, fields in accounts.items():
            address = f"{name}@example.test"
            bench.directory.accounts[address] = replace(bench.directory.accounts[address], **fields)
        client = bench.open("smtp", host)
        await client.send(b"EHLO mail.example.org\r\nMAIL FROM:<joe@example.org>\r\n")
        for one in to:
            out.replies.append((await client.send(b"RCPT TO:<%b>\r\n" % one.encode())).decode().strip())
        if any(one.startswith("250") for one in out.replies):
            await client.send(b"DATA\r\n")
            out.end = (await client.send(content.replace(b"\n", b"\r\n") + b".\r\n")).decode().strip()
        for address in (USER, OTHER):
            account = bench.deliverer.account(bench.directory.accounts[address])
            await bench.store.open(account)
            for name in ("INBOX", "Junk"):
                found = bench.store.find(account, name)
                if found is not None and bench.store.boxes[found].messages:  # type: ignore[attr-defined]
                    out.boxes.setdefault(address, []).append(name)
        out.filters = next((one["filters"] for one in history.events if "filters" in one), "")

    asyncio.run(main())
    return out


ENFORCE = {"enforce": True}


def test_an_account_that_blocks_is_refused_for_itself_alone(tmp_path: Path) -> None:
    found = send(tmp_path, USER, OTHER, content=signed(), host=NEAR, user={"block": ("@example.org",)})
    blocked = "550 5.7.1 mail from this sender or network is blocked here; postmaster@example.test takes mail from you"
    assert found.replies == [blocked, "250 2.1.5 recipient ok"]
    assert found.end.startswith("250") and found.boxes == {OTHER: ["INBOX"]}


def test_an_author_is_known_when_the_content_has_come(tmp_path: Path) -> None:
    """MAIL FROM is another one: who blocks the author has the message in Junk when others take it, and refuses it alone."""
    block = {"block": ("ann@else.test",)}
    content = MESSAGE.replace(b"joe@example.org", b"ann@else.test")
    assert b"ann@else.test" in content
    both = send(tmp_path / "1", USER, OTHER, content=content, user=block)
    assert both.end.startswith("250") and both.boxes == {USER: ["Junk"], OTHER: ["INBOX"]}
    assert f"recipients differ: {USER} refuse (blocked: ann@else.test, by the account), {OTHER} accept" in both.filters
    alone = send(tmp_path / "2", USER, content=content, user=block)
    assert alone.end.startswith("550 5.7.1 mail from this sender") and alone.boxes == {}
    assert "(blocked: ann@else.test, by the account); refused: 550" in alone.filters
    all_ = send(tmp_path / "3", USER, OTHER, content=content, user=block, other=block)
    assert all_.end.startswith("550") and all_.boxes == {}


def test_an_alias_leads_to_accounts_with_their_own_wishes(tmp_path: Path) -> None:
    found = send(tmp_path, TEAM, content=signed(), host=NEAR, user={"block": ("joe@example.org",), "blocked": "junk"})
    assert found.end.startswith("250") and found.boxes == {USER: ["Junk"], OTHER: ["INBOX"]}


def test_an_account_with_two_addresses_has_it_in_its_inbox_if_one_says_so(tmp_path: Path) -> None:
    user = {"block": ("joe@example.org",), "blocked": "junk"}
    bench_domain = Domain("example.test", postmaster=(USER,))
    found = send(tmp_path, USER, "postmaster@example.test", content=signed(), host=NEAR, user=user, domain=bench_domain)
    assert found.boxes == {USER: ["INBOX"]}


def test_scores_of_domains_and_accounts(tmp_path: Path) -> None:
    """The message has a score of 6 or so: DMARC, SPF and the client's name failed."""
    plain = {**ENFORCE}
    content = b"List-Id: <l.test>\n" + MESSAGE  # so DMARC's wish alone refuses nothing
    found = send(tmp_path / "1", USER, OTHER, content=content, settings=plain, user={"refuse_score": 3.0})
    assert found.end.startswith("250") and found.boxes == {USER: ["Junk"], OTHER: ["Junk"]}
    found = send(tmp_path / "2", USER, content=content, settings=plain, user={"refuse_score": 3.0})
    assert found.end.startswith("550")
    strict = Domain("example.test", enforce=True, refuse_score=3.0)
    assert send(tmp_path / "3", USER, OTHER, content=content, domain=strict).end.startswith("550")
    found = send(tmp_path / "4", USER, OTHER, content=content, domain=strict, other={"enforce": False})
    assert found.end.startswith("250") and found.boxes == {USER: ["Junk"], OTHER: ["INBOX"]}


def test_allowed_senders_have_to_be_shown(tmp_path: Path) -> None:
    allow = {"allow": ("joe@example.org",), "junk_score": -5.0, "enforce": True}
    shown = send(tmp_path / "1", USER, content=signed(), host=NEAR, user=allow)
    assert shown.boxes == {USER: ["INBOX"]} and "(allowed: joe@example.org, by the account)" in shown.filters
    forged = send(tmp_path / "2", USER, content=b"List-Id: <l.test>\n" + MESSAGE, user=allow)
    assert forged.boxes == {USER: ["Junk"]} and "allowed" not in forged.filters
    without = send(tmp_path / "3", USER, content=signed(), host=NEAR, user={**allow, "allow": ()})
    assert without.boxes == {USER: ["Junk"]}
    network = send(tmp_path / "4", USER, content=MESSAGE, settings={**ENFORCE, "allow": book(("198.51.100.0/24",))})
    assert network.boxes == {USER: ["INBOX"]}


def test_a_blocked_network_can_write_to_the_postmaster(tmp_path: Path) -> None:
    """RFC 5321 4.5.1."""
    settings = {"block": book(("198.51.100.0/24",))}
    domain = Domain("example.test", postmaster=(OTHER,))
    found = send(
        tmp_path / "1", USER, "Postmaster@example.test", "abuse@example.test", settings=settings, domain=domain
    )
    assert [one[:3] for one in found.replies] == ["550", "250", "250"] and "postmaster@example.test" in found.replies[0]
    assert found.end.startswith("250") and found.boxes == {OTHER: ["INBOX"]}
    assert send(tmp_path / "2", USER, host=NEAR, settings=settings, content=signed()).boxes == {USER: ["INBOX"]}
    junk = send(tmp_path / "3", USER, settings={**settings, "junk": True})
    assert junk.replies[0].startswith("250") and junk.boxes == {USER: ["Junk"]}


@pytest.mark.parametrize(
    ("other", "code"), [({}, "450"), ({"greylist": False}, "250"), ({"block": ("@example.org",)}, "450")]
)
def test_put_off_only_where_all_who_take_it_want_that(tmp_path: Path, other: dict[str, Any], code: str) -> None:
    settings = {"enforce": True, "greylist": 1.0, "dmarc": False}
    greylist = Greylist(str(tmp_path), 300.0)
    found = send(tmp_path, USER, OTHER, settings=settings, greylist=greylist, other=other)
    assert found.end.startswith(code), found.end
    if code == "250":
        assert found.boxes == {USER: ["INBOX"], OTHER: ["INBOX"]}


def test_users_and_this_machine_are_not_judged(tmp_path: Path) -> None:
    found = send(tmp_path, USER, host="127.0.0.1", user={"block": ("@example.org", "127.0.0.0/8")})
    assert found.boxes == {USER: ["INBOX"]}


KEEPS = {**ENFORCE, "thresholds": Thresholds(quarantine=3.0)}
LISTED = b"List-Id: <l.test>\n" + MESSAGE  # so that DMARC's wish alone refuses nothing


def test_a_message_is_kept_back_where_nobody_would_have_it(tmp_path: Path) -> None:
    here = Quarantine(str(tmp_path / "q"), 60.0, 1 << 20)
    found = send(tmp_path, USER, OTHER, content=LISTED, settings=KEEPS, quarantine=here, other={"refuse_score": 3.5})
    (kept,) = here.each()
    assert found.end == f"250 2.0.0 {kept.id} taken" and found.boxes == {}
    assert kept.recipients == [USER, OTHER] and kept.why == found.filters and ": quarantine" in kept.why
    assert (kept.sender, kept.peer, kept.helo) == ("joe@example.org", FAR, "mail.example.org")
    _, content = here.load(kept.id)
    assert content.startswith(b"Authentication-Results:") and content.endswith(LISTED)


def test_who_wants_it_kept_back_has_it_in_junk_where_others_take_it(tmp_path: Path) -> None:
    here = Quarantine(str(tmp_path / "q"), 60.0, 1 << 20)
    found = send(tmp_path, USER, OTHER, content=LISTED, settings=KEEPS, quarantine=here, other={"enforce": False})
    assert found.boxes == {USER: ["Junk"], OTHER: ["INBOX"]} and list(here.each()) == []


def test_nobody_hears_250_for_what_could_not_be_kept(tmp_path: Path) -> None:
    full = Quarantine(str(tmp_path / "q"), 60.0, 100)
    found = send(tmp_path / "1", USER, content=LISTED, settings=KEEPS, quarantine=full)
    assert found.end.startswith("452 4.3.1") and found.boxes == {} and list(full.each()) == []
    (tmp_path / "file").write_bytes(b"")
    broken = Quarantine(str(tmp_path / "file"), 60.0, 1 << 20)
    found = send(tmp_path / "2", USER, content=LISTED, settings=KEEPS, quarantine=broken)
    assert found.end.startswith("451 4.3.0") and "file" not in found.end
