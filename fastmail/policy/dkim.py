"""DKIM signatures of a message, verified (RFC 6376, RFC 8301, RFC 8463, RFC 8616).

The body is hashed while it comes, once for each canonical form that a signature asks for; then the bodies' hashes are
compared, which costs no look-up, then keys are fetched and signatures verified. Bounds: SIGNATURES are looked at, from
the top; NAMES in h=; the key's own (policy.keys). ``l=`` counts only when it covers the whole body: what somebody adds
is never hidden behind a pass. A message whose header has lines that are no fields has no good signature, because
programs differ about where its header ends (6376 3.8).

Results are those of RFC 8601 2.7.1, each with its reason. A key in testing mode makes a message no better and no worse
than none (6376 3.6.1).
"""

import hashlib
import re
import time
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from fastmail._core import dkim as core
from fastmail._core.sha256 import Sum
from fastmail._core.signed import Fields
from fastmail.dns.interface import FAILED, Answer, Budget, Names, ask_all
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.policy import keys, tags
from fastmail.policy.keys import BadKey, Key
from fastmail.policy.tags import BadTags

SIGNATURES = 5
NAMES = 1000  # of h=
FIELD = 65536  # octets of one signature field
HEADER = 262144  # octets of a header that is looked at
EARLY = 300  # s that a clock may be behind
SHOWN = 8  # characters of b= in results (RFC 6008 4)
USUAL = 1024  # characters of an h=, or of a signature without its own values, that is remembered
IDENTITY = 320  # of i=
REMEMBERED = 2048  # domains, selectors and lists of fields, in their one form
RECORDS = 10  # TXT records at one name that are tried
DIGITS = 12  # of t=, x= and l=
ABSENT = -1  # for one of them that is not there: 0 is a time, and a length
FORMS = ("simple", "relaxed")
Own = tuple[int, bytes, bytes, str, int, int]  # what of a signature is a message's own, as Fields.usual has it
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_QUOTED = re.compile(r"=([0-9A-F]{2})")
# Signatures by what they have in common with others of their signer; what is one message's own is not kept.
_known: "OrderedDict[bytes, Signature]" = OrderedDict()


class BadSignature(ValueError):
    """A signature that cannot count. ``result`` as in RFC 8601 2.7.1; ``known``: its tags, as far as they were read."""

    def __init__(self, why: str, result: str = "neutral", known: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.result = result
        self.known = known or {}


class Signature(msgspec.Struct, frozen=True):
    """What a signature says. ``field``: the whole header field; ``key_name``: where its key is; ``instance``: of an ARC
    set, 0 for DKIM. ``signed`` and ``expires``: s since 1970, ABSENT where t= or x= is not there."""

    domain: str
    selector: str
    identity: str
    algorithm: str
    header_relaxed: bool
    body_relaxed: bool
    names: tuple[bytes, ...]
    body_hash: bytes
    signature: bytes
    shown: str
    signed: int
    expires: int
    length: int
    field: bytes
    key_name: str
    instance: int = 0


class Signed(msgspec.Struct, frozen=True):
    """The result of one signature."""

    result: str
    why: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    shown: str = ""
    bits: int = 0


class Content:
    """A message as signatures see it: its header, and its body in the forms that were asked for. ``wanted``: is there
    one?"""

    __slots__ = ("_forms", "_sums", "broken", "fields", "wanted")

    def __init__(self, header: bytes) -> None:
        self.fields = Fields(header[:HEADER])
        self.broken = self.fields.broken or len(header) > HEADER
        self.wanted = False
        self._forms: dict[bool, tuple[core.Body, Sum]] = {}
        self._sums: dict[bool, bytes] = {}

    def want(self, relaxed: bool) -> None:
        """Hash the body in that form too. Before the first octet of it."""
        if relaxed not in self._forms:
            made = Sum()
            self._forms[relaxed] = core.Body(relaxed, made), made
            self.wanted = True

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """More of the body (LF or CRLF), cut anywhere."""
        for body, _ in self._forms.values():
            body.feed(data)

    def finish(self) -> None:
        """All of it has come."""
        for relaxed, (body, made) in self._forms.items():
            body.finish()
            self._sums[relaxed] = made.digest()

    def know(self, relaxed: bool, digest: bytes) -> None:
        """Take the hash of the body in that form from another message that has the same body."""
        self._sums[relaxed] = digest

    def body_hash(self, relaxed: bool) -> bytes:
        return self._sums[relaxed]

    def body_size(self, relaxed: bool) -> int:
        """Octets of the canonical form."""
        return self._forms[relaxed][0].size


def read(content: Content) -> tuple[list[Signature | Signed], int]:
    """The signatures of a message from the top, and how many more it has; asks ``content`` for the bodies that they
    need. One that cannot count is its result already."""
    found = content.fields.named(b"dkim-signature")
    out: list[Signature | Signed] = []
    for field in found[:SIGNATURES]:
        try:
            if content.broken:
                raise BadSignature("a line of the header is no field", "permerror")
            signature = parse(field)
        except BadSignature as error:
            out.append(unusable(error))
            continue
        content.want(signature.body_relaxed)
        out.append(signature)
    return out, max(0, len(found) - SIGNATURES)


def unusable(error: BadSignature) -> Signed:
    """The result of a signature that has no form; what it names is shown where it could be read."""
    known = error.known
    return Signed(
        error.result,
        str(error),
        known.get("d", "")[:IDENTITY],
        known.get("s", "")[:IDENTITY],
        known.get("i", "")[:IDENTITY],
        known.get("a", "")[:IDENTITY],
        tags.plain(known.get("b", ""))[:SHOWN],
    )


def parse(field: bytes) -> Signature:
    """A DKIM-Signature field. BadSignature.

    The mail of a signer has the same signature each time, but for b=, bh=, t= and x=. So a signature is read in full
    once, and of others like it only these four."""
    if len(field) > FIELD:
        raise BadSignature(f"the signature is longer than {FIELD} octets")
    halves = tags.signature(field)
    if halves is None:
        return parse_all(field)
    common, own, body_hash, signed, expires = halves
    known = _known.get(common)
    if known is not None and not bad_times(signed, expires):
        try:
            hashed, octets = a2b_base64(body_hash, strict_mode=True), a2b_base64(own, strict_mode=True)
        except (BadBase64, ValueError):
            return parse_all(field)  # which says what is wrong
        return Signature(
            known.domain,
            known.selector,
            known.identity,
            known.algorithm,
            known.header_relaxed,
            known.body_relaxed,
            known.names,
            hashed,
            octets,
            own[:SHOWN].decode("ascii"),
            signed,
            expires,
            known.length,
            field,
            known.key_name,
        )
    made = parse_all(field)
    if len(common) <= USUAL:
        _known[common] = replace(made, body_hash=b"", signature=b"", field=b"")  # which may be long
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return made


def parse_all(field: bytes, arc: bool = False) -> Signature:
    """The same from its text alone; with ``arc`` an ARC-Message-Signature (RFC 8617 4.1.2). BadSignature."""
    if len(field) > FIELD:
        raise BadSignature(f"the signature is longer than {FIELD} octets")
    try:
        found = tags.parse(field.partition(b":")[2].decode("utf-8"))
    except UnicodeDecodeError:
        raise BadSignature("the signature is not UTF-8") from None
    except BadTags as error:
        raise BadSignature(f"the signature has no form: {error}") from None
    try:
        return _signature(field, found, arc)
    except BadSignature as error:
        error.known = found
        raise


def _signature(field: bytes, found: dict[str, str], arc: bool) -> Signature:
    for name in ("a", "b", "bh", "d", "h", "s", *(("i",) if arc else ("v",))):
        if name not in found:
            raise BadSignature(f"the signature has no {name}=", "permerror")
    if not arc and found["v"] != "1":
        raise BadSignature("the signature has another version", "permerror")
    algorithm = _algorithm(found["a"])
    header, slash, body = found.get("c", "simple").lower().partition("/")
    if header not in FORMS or (slash and body not in FORMS):
        raise BadSignature("c= is not known")
    if "q" in found and "dns/txt" not in tags.words(found["q"]):
        raise BadSignature("q= is not known")
    names = _names(found["h"]) if len(found["h"]) <= USUAL else _names.__wrapped__(found["h"])
    if arc and any(name.startswith(b"arc-") for name in names):
        raise BadSignature("h= names fields of ARC", "permerror")
    if b"from" not in names:
        raise BadSignature("From is not signed", "permerror")
    domain = domain_of(found["d"])
    identity, instance = ("", _number(found, "i")) if arc else (_identity(found.get("i"), domain), 0)
    signed, expires = _number(found, "t"), _number(found, "x")
    _check_times(signed, expires)
    own = tags.plain(found["b"])
    selector = selector_of(found["s"])
    return Signature(
        domain,
        selector,
        identity,
        algorithm,
        header == "relaxed",
        body == "relaxed",
        names,
        octets_of(found["bh"]),
        octets_of(own),
        own[:SHOWN],
        signed,
        expires,
        _number(found, "l"),
        field,
        f"{selector}._domainkey.{domain}",
        instance,
    )


@lru_cache(REMEMBERED)  # what signs mail signs the same fields each time
def _names(text: str) -> tuple[bytes, ...]:
    """h= (RFC 6376 3.5)."""
    if text.count(":") >= NAMES:
        raise BadSignature(f"h= has more than {NAMES} names")
    names = tags.words(text)
    if not text.isascii() or not all(map(_FIELD_NAME.fullmatch, names)):
        raise BadSignature("h= has no form")
    return tuple([name.encode("ascii") for name in names])


def _algorithm(text: str) -> str:
    algorithm = text.lower()
    if algorithm == "rsa-sha1":
        raise BadSignature("rsa-sha1 does not count (RFC 8301 3.1)", "policy")
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise BadSignature("a= is not known")
    return algorithm


@lru_cache(REMEMBERED)
def domain_of(text: str) -> str:
    """d= in its one form: a name of several labels, because a public suffix signs for nobody. BadSignature."""
    try:
        name = _name(text)
    except BadAddress:
        name = ""
    if "." not in name:
        raise BadSignature("d= is no domain name")
    return name


@lru_cache(REMEMBERED)
def selector_of(text: str) -> str:
    try:
        return _name(text)
    except BadAddress:
        raise BadSignature("s= is no selector") from None


def _name(text: str) -> str:
    """A name in its one form. BadAddress, for one with a final dot too: no signature may have it (RFC 6376 3.5)."""
    if text.endswith("."):
        raise BadAddress("a final dot")
    return ascii_name(text)


def octets_of(text: str) -> bytes:
    """base64, perhaps folded. BadSignature."""
    try:
        return tags.base64(text)
    except ValueError:
        raise BadSignature("b= or bh= is not base64") from None


def _number(found: dict[str, str], name: str) -> int:
    if name not in found:
        return ABSENT
    text = found[name]
    if not text.isdecimal() or not text.isascii() or len(text) > DIGITS:
        raise BadSignature(f"{name}= is no number")
    return int(text)


@lru_cache(REMEMBERED)
def _identity(text: str | None, domain: str) -> str:
    """i= with its domain in its one form, at or below d= (RFC 6376 3.5), which it is where it is not there: an empty
    one is something else (3.2)."""
    if text is None:
        return "@" + domain
    text = _QUOTED.sub(lambda found: chr(int(found.group(1), 16)), tags.plain(text))
    local, at, where = text.rpartition("@")
    try:
        name = _name(where)
    except BadAddress:
        at = ""
    if not at or len(text) > IDENTITY:
        raise BadSignature("i= has no form")
    if name != domain and not name.endswith("." + domain):
        raise BadSignature("i= is not below d=", "permerror")
    return f"{local}@{name}"


def _check_times(signed: int, expires: int) -> None:
    """RFC 6376 3.5. BadSignature."""
    bad = bad_times(signed, expires)
    if bad is not None:
        raise BadSignature(*bad)


def bad_times(signed: int, expires: int) -> tuple[str, str] | None:
    """What is wrong, and the result of that: x= has to come, and to be later than t= (RFC 6376 3.5)."""
    now = time.time()
    if expires != ABSENT and expires <= signed:
        return "x= is not after t=", "permerror"
    if expires != ABSENT and expires < now:
        return "the signature has expired", "fail"
    if signed > now + EARLY:
        return "the signature is from the future", "policy"
    return None


class Verifier:
    """Verifies signatures; one for each worker."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def prefetch(self, found: Sequence[Signature | Signed], budget: Budget) -> None:
        """Have the keys in the cache when the body has come."""
        await ask_all(self._names, self.wanted(found), budget)

    def wanted(self, found: Sequence[Signature | Signed]) -> list[tuple[str, str]]:
        """The names of the keys that are not in the cache."""
        asked = []
        for one in found:
            if isinstance(one, Signature) and self._names.cached(one.key_name, "TXT") is None:
                asked.append((one.key_name, "TXT"))
        return list(dict.fromkeys(asked))

    def verify_known(self, content: Content, found: Sequence[Signature | Signed]) -> list[Signed] | None:
        """The result of each, in order, where nobody has to be asked for that; otherwise None. ``content`` is
        finished."""
        out = []
        for one in found:
            if isinstance(one, Signature):
                said = _before_key(content, one)
                if said is None:
                    answer = self._names.cached(one.key_name, "TXT")
                    if answer is None:
                        return None
                    said = _by_key(content, one, answer)
                out.append(said)
            else:
                out.append(one)
        return out

    async def verify(self, content: Content, found: Sequence[Signature | Signed], budget: Budget) -> list[Signed]:
        """The same, and whoever has to be asked is asked. The look-ups do not wait for each other."""
        if len(found) > 1:  # a single one asks by itself
            wanted = [one for one in found if isinstance(one, Signature) and _before_key(content, one) is None]
            await self.prefetch(wanted, budget)
        return [one if isinstance(one, Signed) else await self.one(content, one, budget) for one in found]

    async def one(self, content: Content, one: Signature, budget: Budget) -> Signed:
        """The result of one signature."""
        said = _before_key(content, one)
        if said is None:
            said = _by_key(content, one, await self._names.ask(one.key_name, "TXT", budget))
        return said


def fits(content: Content, known: Signature, key: Key, own: Own) -> bool:
    """Is a signature good that has all in common with a ``known`` one but for what is its ``own``? ``key`` is known to
    be the only one at its name."""
    place, body_hash, signature, _, _, _ = own
    if content.body_hash(known.body_relaxed) != body_hash:
        return False
    return key.verify(signature, content.fields.digest(place, known.names, known.header_relaxed))


def _said(one: Signature, result: str, why: str = "", bits: int = 0) -> Signed:
    return Signed(result, why, one.domain, one.selector, one.identity, one.algorithm, one.shown, bits)


def _before_key(content: Content, one: Signature) -> Signed | None:
    """The result of a signature that no key can make good; None where its key says what it is worth."""
    size = content.body_size(one.body_relaxed) if one.length >= 0 else one.length
    if one.length > size:
        return _said(one, "permerror", "l= is more than the body has")
    if one.length < size:
        return _said(one, "policy", "l= leaves a part of the body unsigned")
    if one.body_hash != content.body_hash(one.body_relaxed):
        return _said(one, "fail", "the body was changed")
    return None


def _by_key(content: Content, one: Signature, answer: Answer) -> Signed:
    """The result of a signature of this body; ``answer``: what the DNS has at its key's name."""
    if answer.state == FAILED:
        return _said(one, "temperror", f"the key: {answer.why}")
    if answer.void:
        return _said(one, "permerror", "there is no key")
    digest = hashlib.sha256(covered(content, one)).digest()
    worst = None
    for record in sorted(answer.records)[:RECORDS]:  # so that their order does not matter
        try:
            key = keys.parse(record)
            _usable(key, one)
        except BadKey as error:
            worst = _said(one, error.result, str(error)) if worst is None or worst.result != "fail" else worst
            continue
        good = key.verify(one.signature, digest)
        if key.testing:
            worst = _said(one, "neutral", "the key is in testing mode", key.bits)
        elif good:
            return _said(one, "pass", "", key.bits)
        else:
            worst = _said(one, "fail", "the signature does not fit", key.bits)
    return worst or _said(one, "permerror", "there is no key")


def covered(content: Content, one: Signature) -> bytes:
    """What was signed: the fields of h=, of which the signature's own is none (RFC 6376 3.5), then that one, without b=
    (3.7)."""
    return content.fields.signed(one.names, one.header_relaxed, one.field, tags.without(one.field, b"b"))


def _usable(key: Key, one: Signature) -> None:
    """Does the key fit the signature (RFC 6376 6.1.2)? BadKey."""
    if not one.algorithm.startswith(key.kind + "-"):
        raise BadKey("the key is of another kind")
    if key.exact and one.identity and one.identity.rpartition("@")[2] != one.domain:
        raise BadKey("the key is not for subdomains")
