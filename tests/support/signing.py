"""Keys and messages for tests of signatures: made once for each run of the tests."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec.structs import replace

from fastmail._core import header as scanner
from fastmail.directory.records import ACTIVE, DkimKey
from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.model.domain import ascii_name
from fastmail.policy import dkim, keyfiles
from fastmail.policy.dkim import Content, Signed, Verifier
from fastmail.policy.rotation import Keeper
from fastmail.policy.sign import SigningKey, message

MESSAGE = (
    b"From: Joe SixPack <joe@example.org>\nTo: Suzie Q <suzie@shopping.example.net>\nSubject: Is dinner ready?\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\nMessage-ID: <20030712040037.46341.5F8J@example.org>\n\n"
    b"Hi.\n\nWe lost the game.  Are you hungry yet?\n\nJoe.\n"
)


LONG = Path(__file__).with_name("rsa4096.pem")  # used by these tests only: to make one takes a second and more


@cache
def rsa(bits: int = 2048) -> RSAPrivateKey:
    if bits == 4096:
        made = load_pem_private_key(LONG.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(made, RSAPrivateKey)
        return made
    return generate_private_key(65537, bits)


@cache
def ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


loaded = cache(
    load_pem_private_key
)  # an RSA key's primes are tested each time that it is read: longer than a signature


def key(domain: str = "example.org", selector: str = "one", kind: str = "rsa", bits: int = 2048) -> SigningKey:
    return SigningKey(domain, selector, rsa(bits) if kind == "rsa" else ed25519())


def published(*keys: SigningKey) -> dict[tuple[str, str], list[Any]]:
    return {(f"{one.selector}._domainkey.{one.domain}", "TXT"): [one.record()] for one in keys}


def signed(content: bytes = MESSAGE, *keys: SigningKey, **more: Any) -> bytes:
    return message(content, keys or [key()], **more) + content


def parts(content: bytes) -> tuple[bytes, bytes]:
    """Header and body."""
    end = scanner.end(content)
    return content[:end], content[end:].removeprefix(b"\r").removeprefix(b"\n")


def verify(content: bytes, records: Mapping[tuple[str, str], Sequence[Any]] | MemoryResolver) -> list[Signed]:
    """The results of a message's signatures."""
    names = records if isinstance(records, MemoryResolver) else MemoryResolver(records)
    header, body = parts(content)

    async def main() -> list[Signed]:
        made = Content(header)
        found, _ = dkim.read(made)
        made.feed(body)
        made.finish()
        return await Verifier(names).verify(made, found, Budget())

    return asyncio.run(main())


def public_key(modulus: int, exponent: int = 65537) -> str:
    """The p= of an RSA key that nobody needs to be able to use (RFC 5280 4.1)."""

    def piece(tag: int, content: bytes) -> bytes:
        size = len(content)
        octets = bytes([size]) if size < 128 else (b"\x82" + size.to_bytes(2, "big"))
        return bytes([tag]) + octets + content

    def number(value: int) -> bytes:
        return piece(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    kind = piece(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    numbers = piece(0x30, number(modulus) + number(exponent))
    return b64encode(piece(0x30, kind + piece(3, b"\0" + numbers))).decode()


def keyed(
    place: Keeper, data_dir: Path, domain: str = "example.test", selector: str = "one", kind: str = "rsa", **more: Any
) -> SigningKey:
    """Give a domain of the directory a key, in use unless ``more`` says otherwise: its file, and its row."""
    made = key(ascii_name(domain), selector, kind)
    row = replace(DkimKey(selector, kind, keyfiles.place_of(domain, selector), ACTIVE, 1, 1), **more)
    keyfiles.keep(str(data_dir), row.file, made.private)
    place.change_domain(domain, lambda old: replace(old, dkim=(*old.dkim, row)))
    return made
