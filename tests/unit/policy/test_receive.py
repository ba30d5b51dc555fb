"""The checks of one message, from MAIL FROM to the verdict; the result does not depend on how its content was cut."""

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.directory.named import Book
from fastmail.dns.interface import Answer, Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.policy.greylist import Greylist
from fastmail.policy.lists import parse
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Received, Settings
from fastmail.policy.verdict import Thresholds
from tests.support.signing import MESSAGE, key, published, signed

ZONE: dict[tuple[str, str], list[Any]] = {
    **published(key()),
    ("example.org", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
    ("mail.example.org", "A"): ["192.0.2.1"],
}


def receive(
    content: bytes,
    cuts: Sequence[int] = (),
    records: Mapping[tuple[str, str], Any] | MemoryResolver = ZONE,
    ip: str = "192.0.2.1",
    sender: str = "joe@example.org",
    helo: str = "mail.example.org",
    **settings: Any,
) -> Received:
    names = records if isinstance(records, MemoryResolver) else MemoryResolver(records)

    async def main() -> Received:
        receiving = Receiver(names, Settings("mx.test", **settings)).begin(ip, helo)
        receiving.mail_from(sender)
        places = [0, *cuts, len(content)]
        for a, b in itertools.pairwise(places):
            receiving.feed(content[a:b])
        try:
            return await receiving.finish()
        finally:
            receiving.close()

    return asyncio.run(main())


def test_a_message_that_everything_vouches_for() -> None:
    found = receive(signed())
    assert found.words == "spf=pass dkim=pass dmarc=pass: accept -0.9"
    assert found.add.startswith(
        b"Authentication-Results: mx.test;\n\tiprev=pass (mail.example.org) policy.iprev=192.0.2.1;"
    )
    assert b"spf=pass smtp.mailfrom=example.org;" in found.add
    assert b"dkim=pass (2048-bit key) header.d=example.org" in found.add
    assert b"dmarc=pass header.from=example.org policy.dmarc=reject" in found.add
    assert found.checks.dmarc is not None
    assert found.checks.dmarc.aligned == (("dkim", "example.org"), ("spf", "example.org"))


def test_the_results_of_spf_in_fields_of_their_own() -> None:
    found = receive(signed(), received_spf=True).add
    assert found.startswith(b"Received-SPF: pass (mx.test: 192.0.2.1 may send for example.org)\n\tclient-ip=192.0.2.1;")
    assert b"\nAuthentication-Results: mx.test;" in found
    assert b"Received-SPF" not in receive(signed()).add
    assert b"Received-SPF" not in receive(signed(), received_spf=True, spf=False).add


def test_where_content_is_cut_does_not_matter() -> None:
    rng = random.Random(7)
    for content in (
        signed(),
        signed().replace(b"\n", b"\r\n"),
        b"\n" + MESSAGE,
        MESSAGE.partition(b"\n\n")[0],
        b"From: a@b.test\r\n\r\n",
    ):
        whole = receive(content)
        assert receive(content, range(1, len(content))).add == whole.add
        for _ in range(20):
            cuts = sorted(rng.randrange(len(content)) for _ in range(rng.randint(1, 6)))
            assert receive(content, cuts) == whole


def results(found: Received) -> Received:
    """Without what was seen of the header on the way."""
    return replace(found, subject=None, clean=False)


def test_line_ends_do_not_matter() -> None:
    content = signed()
    assert results(receive(content)) == results(receive(content.replace(b"\n", b"\r\n")))


def test_a_forger_is_found_out() -> None:
    found = receive(MESSAGE, ip="198.51.100.9", helo="far.test")
    assert found.words == "spf=fail dmarc=fail: refuse 6"
    assert b"dkim=none" in found.add and b"policy.dmarc=reject" in found.add
    assert not found.enforced("refuse")
    assert receive(MESSAGE, ip="198.51.100.9", helo="far.test", enforce=True).enforced("refuse")


def test_a_null_sender_is_the_helo_name() -> None:
    """RFC 9989 3.2.4: for DMARC too."""
    found = receive(MESSAGE, sender="", records={**ZONE, ("mail.example.org", "TXT"): ["v=spf1 a -all"]})
    assert found.checks.dmarc is not None and found.checks.dmarc.aligned == (("spf", "mail.example.org"),)


def test_a_helo_that_passes_vouches_for_no_sender() -> None:
    """RFC 9989 4.4.2: SPF counts by MAIL FROM."""
    zone = {**ZONE, ("mail.example.org", "TXT"): ["v=spf1 a -all"], ("example.org", "TXT"): ["v=spf1 -all"]}
    found = receive(MESSAGE, records=zone)
    assert found.checks.helo is not None and found.checks.helo.result == "pass"
    assert found.checks.dmarc is not None and found.checks.dmarc.result == "fail"


def test_s14_whose_message_it_is() -> None:
    """A pass for one domain says nothing of another that From shows, whichever field a program would show."""
    for more in (b"From: boss@bank.test\n", b"from : boss@bank.test\n"):
        found = receive(signed().replace(b"From:", more + b"From:", 1))
        assert found.checks.dmarc is None and b"dmarc=permerror" in found.add and found.verdict.action == "refuse"


@pytest.mark.parametrize(
    "head",
    [
        b"Sender: boss@bank.test\nSubject: x\n" + b"text\n" * 4 + b"%b",  # programs show Sender: From is text
        b"Subject: x\n" + b"text\n" * 4 + b"%b",
        b"%b" + b"X: y\n" * 60_000 + b"From: boss@bank.test\n",
        b"X: y\n" * 60_000 + b"From: boss@bank.test\n%b",
        b"From\0: boss@bank.test\n%b",
        b"%bFrom\xc2\xa0: boss@bank.test\n",
        b"From\n : boss@bank.test\n%b",
        b"\xef\xbb\xbfFrom: boss@bank.test\n%b",
        b"%b \nFrom: boss@bank.test\n",
    ],
)
def test_s14_a_header_that_programs_read_otherwise(head: bytes) -> None:
    """Its sender may have SPF for his own domain: that vouches for nobody whom a program may show instead."""
    content = head.replace(b"%b", b"From: joe@example.org\n") + b"\nbody\n"
    for form in (content, content.replace(b"\n", b"\r\n")):
        found = receive(form)
        assert found.checks.sender is not None and found.checks.sender.result == "pass"
        assert found.checks.dmarc is None and b"dmarc=permerror" in found.add
        assert found.verdict.action == "refuse" and found == receive(form, [20, len(form) - 3])


def test_a_line_of_an_mbox_file_is_no_second_author() -> None:
    found = receive(b"From boss@bank.test Mon Jan  1 00:00:00 2024\nFrom: joe@example.org\n\nbody\n")
    assert found.checks.dmarc is not None and found.checks.dmarc.result == "pass"


def test_checks_that_are_off_say_nothing() -> None:
    found = receive(signed(), spf=False, dkim=False, dmarc=False, arc=False, reverse=False)
    assert (
        found.add.startswith(b"Authentication-Results: mx.test; none\nX-Spam-Status: No, score=0 ") and found.asked == 0
    )
    assert b"dkim=" not in receive(signed(), dkim=False).add


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\r\n",
        b"\0",
        b"no header",
        b"From: a@b.test",
        b"x" * 300_000,
        b"A: b\n" * 60_000 + b"\n",
        b"\r" * 9,
    ],
)
def test_content_of_any_kind(content: bytes) -> None:
    found = receive(content, range(1, len(content), 5000))
    assert found.add.isascii() and found.add.count(b"\nA") == 0
    assert found == receive(content)


def test_a_dns_that_never_answers_costs_the_budget_and_no_more() -> None:
    names = MemoryResolver(ZONE)
    names.slow |= {"example.org", "one._domainkey.example.org", "_dmarc.example.org", "1.2.0.192.in-addr.arpa"}
    found = receive(signed(), records=names)
    assert b"spf=temperror" in found.add and b"dkim=temperror" in found.add and b"dmarc=temperror" in found.add
    assert found.verdict.action == "accept"


def test_s16_the_questions_of_a_message_are_bounded() -> None:
    zone: dict[tuple[str, str], Any] = {
        ("evil.test", "TXT"): ["v=spf1 " + "mx:many.test " * 10 + "-all"],
        ("mail.evil.test", "TXT"): ["v=spf1 " + "mx:many.test " * 10 + "-all"],
        ("many.test", "MX"): [(n, f"m{n}.many.test") for n in range(10)],
        ("9.100.51.198.in-addr.arpa", "PTR"): [f"p{n}.many.test" for n in range(50)],
    }
    content = b"".join(
        f"DKIM-Signature: v=1; a=rsa-sha256; d=d{n}.test; s=s; h=from; b=eA==; bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=\n".encode()
        for n in range(100)
    ) + MESSAGE.replace(b"example.org", b"a.b.c.d.e.f.g.h.i.j.evil.test")
    names = MemoryResolver(zone)
    receive(content, records=names, ip="198.51.100.9", sender="a@evil.test", helo="mail.evil.test")
    assert len(names.asked) <= 300


class Noting(MemoryResolver):
    """Notes with which budget each question came."""

    def __init__(self, records: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(records)
        self.budgets: dict[str, Budget] = {}

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        assert budget is not None
        self.budgets[name] = budget
        return await super().ask(name, kind, budget)


def test_s16_all_checks_share_one_budget() -> None:
    """SPF, reverse DNS, keys and policies; lists have one of their own, whose time is no longer."""
    names = Noting({**ZONE, **published(key())})
    receive(signed(), records=names, lists=[parse("bl.test")], domain_lists=[parse("dbl.test")], seconds=1.5)
    lists = [budget for name, budget in names.budgets.items() if name.endswith("bl.test")]
    checks = [budget for name, budget in names.budgets.items() if not name.endswith("bl.test")]
    assert len(lists) > 3 and {"one._domainkey.example.org", "_dmarc.example.org", "example.org"} <= set(names.budgets)
    assert len({id(one) for one in checks}) == 1 and checks[0].asked >= len(checks)
    assert {one.seconds for one in lists} == {1.5}, "less than the three seconds that they have"


def test_lists_weigh_what_the_operator_says() -> None:
    zone = {
        **ZONE,
        ("1.2.0.192.bl.test", "A"): ["127.0.0.2"],
        ("2.0.0.127.bl.test", "A"): ["127.0.0.2"],
        ("test.dbl.test", "A"): ["127.0.1.2"],
        ("example.org.dbl.test", "A"): ["127.0.1.2"],
    }
    found = receive(signed(), records=zone, lists=[parse("bl.test*3")], domain_lists=[parse("dbl.test*4")])
    assert [(one.name, one.score) for one in found.verdict.reasons if one.name.startswith("list.")] == [
        ("list.bl.test", 3.0),
        ("list.dbl.test", 4.0),
    ]
    assert found.verdict.action == "junk"


def test_the_order_of_answers_does_not_matter() -> None:
    zone: dict[tuple[str, str], list[Any]] = {
        **ZONE,
        ("one._domainkey.example.org", "TXT"): ["noise", *published(key()).popitem()[1], "v=DKIM1; p="],
        ("example.org", "TXT"): ["other", "v=spf1 mx ptr -all", "v=spf10"],
        ("example.org", "MX"): [(10, f"m{n}.example.org") for n in range(9)],
        ("m7.example.org", "A"): ["203.0.113.1", "192.0.2.1"],
        ("1.2.0.192.in-addr.arpa", "PTR"): [f"p{n}.example.org" for n in range(8)],
        ("p3.example.org", "A"): ["192.0.2.1"],
        ("p5.example.org", "A"): ["192.0.2.1"],
        ("_dmarc.example.org", "TXT"): ["v=spf1", "v=DMARC1; p=reject", "x"],
    }
    content = signed()
    wanted = receive(content, records=zone).add
    assert b"spf=pass" in wanted and b"dkim=pass" in wanted and b"(p3.example.org)" in wanted
    rng = random.Random(3)
    for _ in range(20):
        shuffled = {name: rng.sample(records, len(records)) for name, records in zone.items()}
        assert receive(content, records=shuffled).add == wanted


def test_who_hangs_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        receiving = Receiver(MemoryResolver(ZONE), Settings("mx.test")).begin("192.0.2.1", "mail.example.org")
        receiving.mail_from("joe@example.org")
        receiving.feed(signed())
        receiving.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_thresholds_are_settings() -> None:
    found = receive(MESSAGE, ip="198.51.100.9", thresholds=Thresholds(refuse=3.0), dmarc=False)
    assert (found.verdict.action, found.verdict.score) == ("refuse", 3.0)


def looked(
    found: Any, records: Mapping[tuple[str, str], Any] = ZONE, content: bytes | None = None, **settings: Any
) -> tuple[Received, list[Any]]:
    """What a message with these findings comes to; what was asked."""
    asked: list[Any] = []

    async def look(field: bytes, verified: str) -> Any:
        asked.append((field, verified))
        return found

    async def main() -> Received:
        far = Receiver(MemoryResolver(records), Settings("mx.test", **settings))
        receiving = far.begin("192.0.2.1", "mail.example.org")
        receiving.mail_from("joe@example.org")
        receiving.feed(signed() if content is None else content)
        return await receiving.finish(look)

    return asyncio.run(main()), asked


def test_who_looks_at_the_content_hears_who_sent_it() -> None:
    bad = Finding(
        "x", "virus y", (Reason("x.virus", 0.0),), "refuse", (554, "5.7.1", "y"), always=True, virus="infected"
    )
    found, ((field, verified),) = looked(
        [bad, Finding("r", "add header 7", (Reason("r", 7.0),), remove=((b"x-a", 0),))]
    )
    assert field.startswith(b"Authentication-Results: mx.test;") and b"dkim=pass" in field
    assert verified == "mail.example.org"
    assert found.enforced("refuse") and not found.enforced("junk") and found.reply == (554, "5.7.1", "y")
    assert found.words == "spf=pass dkim=pass dmarc=pass x=virus-y r=add-header-7: refuse 6.1"
    assert found.add == field + (
        b"X-Spam-Status: Yes, score=6.1 required=5\n\ttests=spf.pass,dkim.pass,r,dmarc.pass\n"
        b"X-Spam-Score: 6.1\nX-Spam-Level: ******\nX-Spam-Flag: YES\nX-Virus-Status: Infected\n"
    )
    assert found.remove == ((b"x-a", 0),)


@pytest.mark.parametrize(
    ("settings", "tag"),
    [
        ({}, ""),
        ({"subject_tag": "[SPAM]"}, ""),  # nothing is done, only written down
        ({"subject_tag": "[SPAM]", "enforce": True}, "[SPAM]"),
        ({"subject_tag": "[SPAM]", "enforce": True, "thresholds": Thresholds(junk=9.0)}, ""),
        (
            {"subject_tag": "[SPAM]", "enforce": True, "thresholds": Thresholds(junk=9.0), "subject_score": 6.0},
            "[SPAM]",
        ),
        ({"subject_tag": "[SPAM]", "enforce": True, "thresholds": Thresholds(junk=9.0), "subject_score": 6.2}, ""),
        ({"subject_tag": "[SPAM]", "thresholds": Thresholds(junk=9.0), "subject_score": 6.0}, ""),
    ],
)
def test_whose_subject_gets_a_tag(settings: dict[str, Any], tag: str) -> None:
    assert looked([Finding("r", "7", (Reason("r", 7.0),))], **settings)[0].tag == tag


@pytest.mark.parametrize("content", [signed(), MESSAGE, signed().replace(b"From:", b"Fro:"), b"no header"])
@pytest.mark.parametrize("settings", [{}, {"enforce": True}, {"thresholds": Thresholds(junk=-1.0)}])
def test_who_finds_nothing_changes_nothing(content: bytes, settings: dict[str, Any]) -> None:
    """What is kept of a sender's messages is the same, to the octet, as what is made where others have a say."""
    usual = receive(content, **settings)
    found, _ = looked([], content=content, **settings)
    assert found == usual and found.add.count(b"X-Spam-Status:") == 1 and found.words


def test_nobody_looks_at_what_is_refused_anyway() -> None:
    zone = {**ZONE, ("example.org", "TXT"): ["v=spf1 -all"], ("one._domainkey.example.org", "TXT"): ["v=DKIM1; p="]}
    zone.pop(("1.2.0.192.in-addr.arpa", "PTR"))
    found, asked = looked([], zone, enforce=True, thresholds=Thresholds(refuse=3.0))
    assert found.verdict.action == "refuse" and asked == []
    found, asked = looked([], zone, thresholds=Thresholds(refuse=3.0))
    assert found.verdict.action == "refuse" and len(asked) == 1 and b"X-Virus" not in found.add


# ---------------------------------------------------------------- before the content, and what the content names


def names_of(found: Received) -> list[str]:
    return [one.name for one in found.verdict.reasons]


def said(enforce: bool = False, **more: Any) -> Received:
    """A message of which everything is looked at that its client says."""
    asked = {"helo": more.pop("name", "mail.example.org"), "sender": more.pop("of", "joe@example.org")}
    names = MemoryResolver({**ZONE, ("example.org", "MX"): [(1, "mail.example.org")], **more.pop("zone", {})})
    names.broken |= set(more.pop("broken", ()))

    async def main() -> Received:
        settings = Settings("mx.test", enforce=enforce, **{"helo": "refuse", "sender": "refuse", **more})
        receiving = Receiver(names, settings).begin("192.0.2.1", asked["helo"])
        receiving.mail_from(asked["sender"])
        receiving.feed(MESSAGE)
        return await receiving.finish()

    return asyncio.run(main())


def test_what_a_client_says_is_a_reason() -> None:
    generic = {("1.2.0.192.in-addr.arpa", "PTR"): ["192-0-2-1.dyn.test"], ("192-0-2-1.dyn.test", "A"): ["192.0.2.1"]}
    found = said(name="bare", of="joe@nowhere.test", zone=generic, helo="score", sender="score")
    reasons = {one.name: one.score for one in found.verdict.reasons}
    assert (reasons["helo.bare"], reasons["sender.no_host"], reasons["reverse.generic"]) == (1.0, 2.0, 0.5)
    assert "DMARC" in found.verdict.reply[2]
    assert {"helo.bare", "sender.no_host", "reverse.generic"}.isdisjoint(
        names_of(said(name="bare", helo="off", sender="off"))
    )
    assert names_of(said()) == names_of(said(helo="off", sender="off"))


@pytest.mark.parametrize(
    ("more", "reply"),
    [
        ({"name": "MX.test"}, (550, "5.7.1")),
        ({"of": "joe@deaf.test", "zone": {("deaf.test", "MX"): [(0, "")]}}, (550, "5.7.27")),
        ({"of": "joe@nowhere.test"}, (550, "5.1.8")),
        ({"of": "joe@example.org", "broken": ["example.org"]}, (450, "4.1.8")),
        ({"name": "[198.51.100.1]"}, (250, "2.0.0")),
        ({}, (250, "2.0.0")),
    ],
)
def test_what_is_enough_to_refuse_a_message(more: dict[str, Any], reply: tuple[int, str]) -> None:
    found = said(enforce=True, **more)
    assert found.reply[:2] == reply and found.enforced({550: "refuse", 450: "later", 250: "accept"}[reply[0]])
    assert said(**more).reply[0] == 250, "written down only"
    if reply[0] != 250:
        assert said(True, **more, helo="score", sender="score").reply[:2] != reply


def test_an_allowed_network_may_say_what_it_likes() -> None:
    assert said(enforce=True, name="mx.test", allow=Book(["192.0.2.0/24"])).reply[0] == 250


def linked(content: bytes, records: Mapping[tuple[str, str], Any], **settings: Any) -> tuple[Received, list[str]]:
    """(what the checks came to, names that lists were asked for)."""
    names = MemoryResolver({**ZONE, ("test.dbl.test", "A"): ["127.0.1.2"], **records})

    async def main() -> Received:
        receiving = Receiver(
            names, Settings("mx.test", link_lists=[parse("dbl.test=127.0.1.[2..99]*4")], **settings)
        ).begin("192.0.2.1", "mail.example.org")
        receiving.mail_from("joe@example.org")
        receiving.feed(content)
        return await receiving.finish(content=content)

    found = asyncio.run(main())
    return found, [name for name, _ in names.asked if name.endswith(".dbl.test")]


def test_lists_of_what_the_content_names() -> None:
    content = MESSAGE + b"http://evil.test/ http://good.test/ spam@bad.test\n"
    records = {("evil.test.dbl.test", "A"): ["127.0.1.4"], ("bad.test.dbl.test", "A"): ["127.0.1.2"]}
    found, asked = linked(content, records)
    assert [one.why for one in found.verdict.reasons if one.name == "list.dbl.test"] == ["evil.test 127.0.1.4"]
    assert {f"{name}.dbl.test" for name in ("evil.test", "good.test", "bad.test", "test", "invalid")} == set(asked)
    assert linked(MESSAGE, {})[1] == []


def test_who_hangs_up_meanwhile_stops_no_check() -> None:
    """All of the message has come, so its fate is decided, and what its checks asked is asked to the end."""
    content = MESSAGE + b"http://evil.test/\n"
    records = ZONE | {
        ("test.dbl.test", "A"): ["127.0.1.2"],
        ("evil.test.dbl.test", "A"): ["127.0.1.4"],
    }

    async def main() -> Received:
        receiver = Receiver(MemoryResolver(records), Settings("mx.test", link_lists=[parse("dbl.test")]))
        receiving = receiver.begin("192.0.2.1", "mail.example.org")
        receiving.mail_from("joe@example.org")
        receiving.feed(content)
        finishing = asyncio.create_task(receiving.finish(content=content))
        await asyncio.sleep(0)
        receiving.close()
        found = await finishing
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found

    assert "list.dbl.test" in names_of(asyncio.run(main()))


def test_a_listing_counts_once_for_header_and_content() -> None:
    content = MESSAGE + b"http://example.org/\n"
    records = {("example.org.dbl.test", "A"): ["127.0.1.4"]}
    found, _ = linked(content, records, domain_lists=[parse("dbl.test=127.0.1.[2..99]*4")])
    assert names_of(found).count("list.dbl.test") == 1


def test_many_names_are_a_reason() -> None:
    found, asked = linked(MESSAGE + b" ".join(b"http://n%d.test/" % n for n in range(50)), {})
    assert "links.many" in names_of(found) and len(asked) < 40


def test_reply_to_is_looked_up_too() -> None:
    records = {("test.dbl.test", "A"): ["127.0.1.2"], ("reply.test.dbl.test", "A"): ["127.0.1.4"]}
    content = b"Reply-To: Joe <joe@Reply.test>, x y\nReply-To: Me <me@reply.test>\n" + MESSAGE
    found = receive(content, (), {**ZONE, **records}, domain_lists=[parse("dbl.test=127.0.1.[2..99]*4")])
    assert [one.why for one in found.verdict.reasons if one.name == "list.dbl.test"] == ["reply.test 127.0.1.4"]


def test_good_mail_may_free_its_sender_from_greylisting(tmp_path: Path) -> None:
    """Once it is taken: that is not decided here."""
    names = MemoryResolver({**ZONE, **published(key())})
    greylist = Greylist(str(tmp_path))

    async def main(wants: float, *found: Finding) -> str:
        settings = Settings("mx.test", enforce=True, greylist=wants)
        receiving = Receiver(names, settings, greylist).begin("192.0.2.1", "mail.example.org")
        receiving.mail_from("joe@example.org")
        receiving.feed(signed())

        async def look(field: bytes, verified: str) -> Sequence[Finding]:
            return found

        received = await receiving.finish(look)
        assert received.reply[0] == 250
        return received.earns

    assert asyncio.run(main(0.0)) == "", "where nobody is put off, nothing is earned"
    assert asyncio.run(main(1.0)) == "example.org"
    assert asyncio.run(main(9.0, Finding("s", "3", (Reason("s", 3.0),)))) == "", "it has a score"
    assert asyncio.run(main(9.0, Finding("s", "junk", action="junk"))) == ""
    assert greylist.wait("example.org", "x@example.org") == 300
