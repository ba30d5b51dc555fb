"""What a sealer that the operator trusts saw of a message (RFC 8617 7.2): only that counts."""

import pytest

from fastmail.policy import dmarc
from fastmail.policy.arc import Chain
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.sealers import vouching

TRUSTED = frozenset(("list.test", "alumni.test"))
AUTHOR = "sub.author.test"


def failed(record: str = "v=DMARC1; p=reject") -> Dmarc:
    return Dmarc(
        "fail", "neither", AUTHOR, "author.test", "reject", "reject", "author.test", (), dmarc.parse(record.encode())
    )


def said(*results: str, sealers: tuple[str, ...] = ("list.test",), record: str = "v=DMARC1; p=reject") -> str:
    """The sealer that vouches; each of ``results`` is what one set says, the newest first."""
    chain = Chain("pass", "", len(sealers), sealers, tuple(f"mx.{sealers[0]}; {one}" for one in results))
    return vouching(chain, failed(record), TRUSTED)[0]


@pytest.mark.parametrize(
    ("results", "good"),
    [
        ("dmarc=pass header.from=sub.author.test", True),
        ("dmarc=pass header.from=SUB.Author.test", True),
        ("dmarc=pass (p=reject)", True),  # the set is about this message
        ("dmarc=pass header.from=other.test", False),  # another author: who changed From vouches for nobody
        ("dmarc=fail header.from=sub.author.test", False),
        ("dmarc=permerror header.from=sub.author.test", False),
        ("dmarc=fail header.from=sub.author.test; dkim=pass header.d=sub.author.test", False),
        ("dmarc=pass header.from=sub.author.test; dmarc=fail header.from=sub.author.test", False),
        ("none", False),
        ("spf=pass smtp.mailfrom=x@sub.author.test", True),
        ("spf=pass smtp.mailfrom=author.test", True),  # relaxed alignment
        ("spf=pass smtp.mailfrom=notauthor.test", False),
        ("spf=pass smtp.helo=author.test", False),  # HELO is no identifier of DMARC
        ("spf=fail smtp.mailfrom=author.test", False),
        ("dkim=pass header.i=@author.test", True),
        ("dkim=pass header.d=evil.test header.i=@author.test", False),  # d= is what signed
        ("dkim=pass header.d=evil.test header.d=author.test", False),  # which of them?
        ("dmarc=none header.from=sub.author.test; dkim=pass header.d=author.test", True),
        ("dmarc=temperror header.from=sub.author.test; dkim=pass header.d=evil.test", False),
        ("arc=pass header.d=author.test", False),
        ("dmarc=pass header.from=sub.author.test; spf", False),  # not readable as a whole
        ("x=y (dmarc=pass header.from=sub.author.test)", False),
        ('spf=none reason="; dmarc=pass header.from=sub.author.test"', False),
    ],
)
def test_what_one_set_says(results: str, good: bool) -> None:
    assert said(results) == ("list.test" if good else "")


def test_strict_alignment_is_kept_to() -> None:
    assert said("dkim=pass header.d=author.test", record="v=DMARC1; p=reject; adkim=s") == ""
    assert said("spf=pass smtp.mailfrom=author.test", record="v=DMARC1; p=reject; adkim=s") == "list.test"
    assert said("spf=pass smtp.mailfrom=author.test", record="v=DMARC1; p=reject; aspf=s") == ""


def test_trusted_sealers_vouch_for_those_before_them() -> None:
    """A list that changed the message is followed by a forwarder, who saw a failure."""
    good, bad = "dmarc=pass header.from=sub.author.test", "dmarc=fail header.from=sub.author.test; arc=pass"
    assert said(bad, good, sealers=("alumni.test", "list.test")) == "list.test"
    assert said(good, bad, sealers=("alumni.test", "list.test")) == "alumni.test"
    assert said(good, good, sealers=("stranger.test", "list.test")) == "", "the newest sealer is not trusted"
    assert said(bad, good, good, sealers=("alumni.test", "stranger.test", "list.test")) == "", "nor is the one between"


def test_a_chain_that_does_not_hold_says_nothing() -> None:
    chain = Chain("fail", "x", 1, ("list.test",), ("m.test; dmarc=pass",))
    assert vouching(chain, failed(), TRUSTED) == vouching(None, failed(), TRUSTED) == ("", "")


def test_people_read_what_the_trusted_sealer_said() -> None:
    chain = Chain("pass", "", 1, ("list.test",), ("m.test; dmarc=fail header.from=sub.author.test",))
    assert vouching(chain, failed(), TRUSTED) == ("", "list.test says dmarc=fail")
    assert vouching(chain, failed(), ()) == ("", ""), "nobody that is trusted was asked"
