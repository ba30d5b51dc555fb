"""ARC (RFC 8617): the chain of those who passed a message on, verified; and a set of our own put on it.

A chain is as good as those who sealed it: ``pass`` says that nobody tampered with it, and no more. So only sealers on a
list of the operator's count for anything (policy.verdict). Trouble of any kind, of the DNS too, is ``fail`` (5.2.1).

Bounds: SETS sets; all seals together hash each field once or twice, however many there are.
"""

import asyncio
import hashlib
import re
import time
from base64 import b64encode
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from fastmail._core import dkim as core
from fastmail.dns.interface import FAILED, Budget, Names
from fastmail.policy import dkim, keys, sign, tags
from fastmail.policy.dkim import BadSignature, Content, Signature, Verifier
from fastmail.policy.keys import BadKey
from fastmail.policy.results import behind_cfws
from fastmail.policy.sign import SigningKey
from fastmail.policy.tags import BadTags

SETS = 50
RESULTS, MESSAGE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
NAMES = (RESULTS, MESSAGE, SEAL)
_INSTANCE = re.compile(r"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;")
_NUMBER = re.compile(r"[0-9]{1,2}")
_TIME = re.compile(r"[0-9]{1,12}")
NONE, PASS, FAIL = "none", "pass", "fail"


class Chain(msgspec.Struct, frozen=True, cache_hash=True):
    """``result``: none, pass or fail; ``sets``: how many; ``sealers``: their domains, the newest first; ``results``:
    what each of their sets says of the message when it came to that sealer (RFC 8601), in the same order; only of a
    chain that passes."""

    result: str
    why: str = ""
    sets: int = 0
    sealers: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seal:
    """One ARC-Seal."""

    domain: str
    selector: str
    algorithm: str
    signature: bytes
    cv: str


@dataclass(slots=True)
class Found:
    """What a header has of ARC: sets in order, each (results, message signature, seal) as whole fields; or what is
    wrong with them."""

    sets: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    seals: list[_Seal] = field(default_factory=list)
    newest: Signature | None = None
    why: str = ""


NO_CHAIN = Chain(NONE)


def there(content: Content) -> bool:
    """Does a message have anything of ARC?"""
    return any(content.fields.numbers(NAMES, 1))


def read(content: Content) -> Found:
    """RFC 8617 5.2, steps 1 to 3; asks ``content`` for the body that the newest set needs."""
    found = Found()
    fields = [content.fields.named(name) for name in NAMES]
    if not any(fields):
        return found
    try:
        found.sets = _sets(fields)
        found.seals = [_seal(seal) for _, _, seal in found.sets]
        for number, seal in reversed(list(enumerate(found.seals, 1))):
            if seal.cv != (NONE if number == 1 else PASS):
                raise BadSignature(f"the chain is said to {'fail' if seal.cv == FAIL else 'be otherwise'} at {number}")
        if content.broken:
            raise BadSignature("a line of the header is no field")
        newest = found.sets[-1][1]
        found.newest = replace(dkim.parse_all(_bare(newest), arc=True), field=newest)
    except BadSignature as error:
        found.why = str(error) or "no form"
        return found
    content.want(found.newest.body_relaxed)
    return found


def _sets(fields: list[list[bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """One field of each kind for 1..N, in any order. BadSignature."""
    count = len(fields[0])
    if not 0 < count <= SETS or any(len(one) != count for one in fields):
        raise BadSignature("the sets of ARC are not complete, or too many")
    out: list[list[bytes]] = [[] for _ in range(count)]
    for kind in fields:
        for text in kind:
            number = _instance(text) if kind is not fields[0] else _results(text)[0]
            if not 1 <= number <= count:
                raise BadSignature("the sets of ARC have a gap")
            out[number - 1].append(text)
        if len({len(one) for one in out}) != 1:
            raise BadSignature("a set of ARC is there twice")
    return [(one[0], one[1], one[2]) for one in out]


def _instance(text: bytes) -> int:
    """i= of a signature or a seal (RFC 8617 4.2.1): first, as it should be, or anywhere. BadSignature."""
    value = _bare(text).partition(b":")[2].decode("utf-8", "replace")
    found = _INSTANCE.match(value)
    if found is not None:
        return int(found.group(1))
    try:
        number = tags.parse(value).get("i", "")
    except BadTags:
        raise BadSignature("a field of ARC has no form") from None
    if not _NUMBER.fullmatch(number):
        raise BadSignature("a field of ARC has no i=")
    return int(number)


def _bare(text: bytes) -> bytes:
    """A message signature or a seal without the comments that may be around its instance (RFC 8617 4.2.1): in a tag
    list there are none."""
    name, _, value = text.partition(b":")
    if b"(" not in value or _INSTANCE.match(value.decode("utf-8", "replace")):
        return text
    try:
        number, rest = _results(text)
    except BadSignature:
        return text
    return name + f":i={number};{rest}".encode()


def _results(text: bytes) -> tuple[int, str]:
    """i= of results, which comes first and may have comments around it (RFC 8617 4.1.1), and what follows, as another
    host's Authentication-Results says it. BadSignature."""
    value = text.partition(b":")[2].decode("utf-8", "replace")
    found = _INSTANCE.match(value)
    if found is not None:
        return int(found.group(1)), value[found.end() :].strip()
    at = behind_cfws(value, 0)
    for wanted in ("i", "="):
        if at < 0 or value[at : at + 1] != wanted:
            raise BadSignature("results of ARC have no i=")
        at = behind_cfws(value, at + 1)
    number = _NUMBER.match(value, at) if at >= 0 else None
    at = behind_cfws(value, number.end()) if number is not None else -1
    if number is None or at < 0 or value[at : at + 1] != ";":
        raise BadSignature("results of ARC have no i=")
    return int(number.group()), value[at + 1 :].strip()


def _seal(text: bytes) -> _Seal:
    """RFC 8617 4.1.3. BadSignature."""
    try:
        found = tags.parse(_bare(text).partition(b":")[2].decode("utf-8"))
    except (BadTags, UnicodeDecodeError):
        raise BadSignature("a seal has no form") from None
    if not {"a", "b", "d", "s", "cv"} <= set(found) or "h" in found:
        raise BadSignature("a seal has not the tags that it needs, or h=")
    algorithm = found["a"].lower()
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise BadSignature("the algorithm of a seal is not known")
    if "t" in found and not _TIME.fullmatch(found["t"]):
        raise BadSignature("t= of a seal is no number")
    domain, selector = dkim.domain_of(found["d"]), dkim.selector_of(found["s"])
    return _Seal(domain, selector, algorithm, dkim.octets_of(found["b"]), found["cv"].lower())


def _digests(found: Found) -> list[bytes]:
    """What each seal signed (RFC 8617 5.1.1): all sets up to its own, its own without b=."""
    out = []
    before = hashlib.sha256()
    for results, message, seal in found.sets:
        before.update(core.field(results, True) + core.field(message, True))
        own = before.copy()
        own.update(core.field(tags.without(seal, b"b"), True).removesuffix(b"\r\n"))
        out.append(own.digest())
        before.update(core.field(seal, True))
    return out


class Arc:
    """Verifies chains; one for each worker."""

    def __init__(self, names: Names, verifier: Verifier) -> None:
        self._names = names
        self._verifier = verifier

    async def verify(self, content: Content, found: Found, budget: Budget) -> Chain:
        """RFC 8617 5.2, the rest; ``content`` is finished."""
        if found.newest is None and not found.why:
            return NO_CHAIN
        count = len(found.sets)
        sealers = tuple(seal.domain for seal in reversed(found.seals))
        if found.newest is None:
            return Chain(FAIL, found.why, count, sealers)
        newest = await self._verifier.one(content, found.newest, budget)
        if newest.result != PASS:
            return Chain(FAIL, f"the newest message signature: {newest.why}", count, sealers)
        digests = _digests(found)
        whys = await asyncio.gather(
            *(self._check(seal, digest, budget) for seal, digest in zip(found.seals, digests, strict=True))
        )
        for number in range(count, 0, -1):
            if whys[number - 1]:
                return Chain(FAIL, f"seal {number}: {whys[number - 1]}", count, sealers)
        return Chain(PASS, "", count, sealers, tuple([_results(one[0])[1] for one in reversed(found.sets)]))

    async def _check(self, seal: _Seal, digest: bytes, budget: Budget) -> str:
        """Why a seal does not hold; empty when it does."""
        answer = await self._names.ask(f"{seal.selector}._domainkey.{seal.domain}", "TXT", budget)
        if answer.state == FAILED:
            return answer.why
        why = "there is no key"
        for record in sorted(answer.records)[: dkim.RECORDS]:
            try:
                key = keys.parse(record)
            except BadKey as error:
                why = str(error)
                continue
            if not seal.algorithm.startswith(key.kind + "-"):
                why = "the key is of another kind"
            elif key.testing:  # as for signatures: no better than none
                why = "the key is in testing mode"
            elif key.verify(seal.signature, digest):
                return ""
            else:
                why = "the signature does not fit"
        return why


def _highest(content: Content) -> tuple[int, bool]:
    """The highest instance of a chain that failed, whose sets need not be complete, and whether its seal says so
    already."""
    highest, failed = 0, False
    for name in NAMES:
        for text in content.fields.named(name):
            with suppress(BadSignature):
                number = _results(text)[0] if name == RESULTS else _instance(text)
                if number >= highest:
                    failed = (failed and number == highest) or (name == SEAL and _says_fail(text))
                    highest = number
    return highest, failed


def _says_fail(seal: bytes) -> bool:
    with suppress(BadTags):
        return tags.parse(_bare(seal).partition(b":")[2].decode("utf-8", "replace")).get("cv", "").lower() == FAIL
    return False


def seal(
    content: Content,
    found: Found,
    chain: Chain,
    payload: str,
    hostname: str,
    key: SigningKey,
    uncovered: Container[bytes] = (),
) -> list[bytes]:
    """Our own set for a message that we pass on (RFC 8617 5.1): fields (LF) to be put in front of it, as they stand.
    ``content`` is finished and its relaxed body was wanted; ``payload``: of our Authentication-Results, as
    ``results.line`` gives each line; ``uncovered``: names of fields that will still change. None are added to a chain
    that is full, or was said to fail."""
    highest, failed = _highest(content) if chain.result == FAIL else (len(found.sets), False)
    number = highest + 1
    if failed or number > SETS:
        return []
    results = f"ARC-Authentication-Results: i={number}; {hostname}{payload}\n".encode("ascii")
    now = int(time.time())
    covered = [name for name in sign.names(content.fields) if not name.startswith(b"arc-") and name not in uncovered]
    covered += [b"dkim-signature"] * min(content.fields.number(b"dkim-signature"), sign.MOST_NAMED)
    start = [
        f"ARC-Message-Signature: i={number}; a={key.algorithm}; c=relaxed/relaxed;",
        f"\td={key.domain};",
        f"\ts={key.selector}; t={now};",
        *sign.listed(covered),
        f"\tbh={b64encode(content.body_hash(True)).decode()};",
    ]
    message = sign.completed("\n".join(start), content.fields.canonical(covered, True), key)
    cv = chain.result
    start = [
        f"ARC-Seal: i={number}; a={key.algorithm}; cv={cv}; t={now};",
        f"\td={key.domain};",
        f"\ts={key.selector};",
    ]
    sets = [one for three in found.sets for one in three] if cv != FAIL else []
    data = b"".join(core.field(one, True) for one in [*sets, results, message])
    return [sign.completed("\n".join(start), data, key), message, results]
