"""Passkeys of people who administer (W3C Web Authentication, level 2): what a page asks of a browser, and what its
answer is worth. The library webauthn reads and checks the answers.

A page does, for a new passkey and for a login:

    ask_to_register / ask_to_enter    -> JSON for navigator.credentials.create / get; a challenge among it
    registered / entered              the browser's answer: the passkey is kept, or the account's number comes back

Promises: a challenge lets in once, for MINUTES, and for the account that it was made for. How many are asked for costs
nobody anything. The device has to have
recognised its user (user verification), because a passkey stands for password and second factor together. A device that
counts its signatures and goes back is a copy, and is refused. What is wrong with an answer is Refused, whose text may
be shown.
"""

import hmac
import json
import secrets
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import webauthn
from msgspec.structs import replace
from webauthn.helpers import (
    base64url_to_bytes,
    parse_authentication_credential_json,
    parse_registration_credential_json,
)
from webauthn.helpers import structs as w3c
from webauthn.helpers.exceptions import WebAuthnException

from fastmail.directory.errors import NoSuchUser
from fastmail.directory.records import Account, Passkey
from fastmail.directory.rows import U64
from fastmail.model.errors import ClientError
from fastmail.telemetry import log

MINUTES = 5
NONCE = 16  # octets of chance in a challenge, as many as are asked for (level 2, 13.4.3)
UNTIL = struct.Struct(">Q")  # until when it counts, in the process's own seconds
SAID = NONCE + UNTIL.size  # the proof is behind that
LONGEST = 64 << 10  # characters of an answer
NOT_RIGHT = "this passkey was not accepted"


class Refused(ClientError):
    """An answer that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Site:
    """Whose pages ask. ``host``: what passkeys are bound to (the RP ID); ``origins``: the addresses that pages may
    have, such as https://admin.example.org; ``name``: for people."""

    host: str
    origins: tuple[str, ...]
    name: str = "fastmail"


class Keeper(Protocol):
    """What is asked of the directory."""

    def account_by_id(self, number: int) -> Account | None: ...
    def add_passkey(self, address: str, new: Passkey) -> None: ...
    def use_passkey(self, number: int, credential: bytes, change: Callable[[Passkey], Passkey]) -> Passkey: ...


class Challenges:
    """Makes and checks challenges; one in each process with pages. ``clock``: s, as time.monotonic.

    Nothing is kept of a challenge that was made, so nobody can push out those of others by asking for many. It says
    until when it counts, and is authenticated with a key of this process, together with the account that it is for.
    What was let in by one is kept until that is over: each entry cost a signature of a passkey that is known here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: OrderedDict[bytes, int] = OrderedDict()  # until when, in the order in which they were used
        self._lock = threading.Lock()  # answers are checked on threads

    def make(self, number: int) -> bytes:
        """A new one for an account; 0 for whoever comes."""
        said = secrets.token_bytes(NONCE) + UNTIL.pack(int(self._clock()) + MINUTES * 60)
        return said + self._proof(said, number)

    def _proof(self, said: bytes, number: int) -> bytes:
        return hmac.digest(self._key, said + U64.pack(number), "sha256")

    def check(self, challenge: bytes, number: int) -> None:
        """Refused where it is none, was used, or is for somebody else."""
        said, proof = challenge[:SAID], challenge[SAID:]
        made_here = any(hmac.compare_digest(proof, self._proof(said, one)) for one in (0, number))
        if not made_here or UNTIL.unpack(said[NONCE:])[0] <= self._clock() or challenge in self._used:
            raise Refused("this took too long, or was answered before: try again")

    def use(self, challenge: bytes, number: int) -> None:
        """Use one up, for an answer that was found right. Refused as by ``check``: of two answers with one challenge
        one counts."""
        now = self._clock()
        with self._lock:
            self.check(challenge, number)
            while self._used and next(iter(self._used.values())) <= now:
                self._used.popitem(last=False)
            self._used[challenge] = int(UNTIL.unpack(challenge[NONCE:SAID])[0]) + 1


def ask_to_register(site: Site, challenges: Challenges, account: Account, known: Sequence[Passkey]) -> str:
    """JSON for navigator.credentials.create: a passkey of this account, on a device that has none of ``known``."""
    options = webauthn.generate_registration_options(
        rp_id=site.host,
        rp_name=site.name,
        user_name=account.address,
        user_display_name=account.name or account.address,
        user_id=U64.pack(account.id),
        challenge=challenges.make(account.id),
        timeout=MINUTES * 60_000,
        authenticator_selection=w3c.AuthenticatorSelectionCriteria(
            resident_key=w3c.ResidentKeyRequirement.PREFERRED,
            user_verification=w3c.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=_described(known),
    )
    return webauthn.options_to_json(options)


def registered(
    directory: Keeper, site: Site, challenges: Challenges, account: Account, answer: str, name: str, now: int
) -> Passkey:
    """Keep the passkey of a browser's answer; it waits for the disk. Refused, DirectoryError."""
    with _refusing(account.address):
        given = parse_registration_credential_json(_bounded(answer))
        challenge = _challenge(given.response.client_data_json)
        challenges.check(challenge, account.id)
        found = webauthn.verify_registration_response(
            credential=given,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=list(site.origins),
            require_user_verification=True,
        )
        challenges.use(challenge, account.id)
    transports = tuple(one.value for one in given.response.transports or ())
    new = Passkey(found.credential_id, found.credential_public_key, name, found.sign_count, transports, now)
    directory.add_passkey(account.address, new)
    return new


def ask_to_enter(site: Site, challenges: Challenges, known: Sequence[Passkey] = (), number: int = 0) -> str:
    """JSON for navigator.credentials.get: one of the passkeys of an account that is known by then, or without any the
    one that a device has for this site."""
    options = webauthn.generate_authentication_options(
        rp_id=site.host,
        challenge=challenges.make(number),
        timeout=MINUTES * 60_000,
        allow_credentials=_described(known) or None,
        user_verification=w3c.UserVerificationRequirement.REQUIRED,
    )
    return webauthn.options_to_json(options)


def entered(directory: Keeper, site: Site, challenges: Challenges, answer: str, now: int, number: int = 0) -> Account:
    """The account that a browser's answer lets in; it waits for the disk. ``number``: of the account that was asked
    for, 0 where the device says whose it is. Refused. The caller asks what any login asks: directory.access,
    directory.standing."""
    with _refusing(str(number or "")):
        given = parse_authentication_credential_json(_bounded(answer))
        handle = given.response.user_handle
        if not number:
            number = U64.unpack(handle)[0] if handle is not None and len(handle) == U64.size else 0
        challenge = _challenge(given.response.client_data_json)
        challenges.check(challenge, number)
        account = directory.account_by_id(number)
        if account is None or not account.enabled or not account.role:
            raise Refused(NOT_RIGHT)

        def shown(known: Passkey) -> Passkey:
            found = webauthn.verify_authentication_response(
                credential=given,
                expected_challenge=challenge,
                expected_rp_id=site.host,
                expected_origin=list(site.origins),
                credential_public_key=known.public_key,
                credential_current_sign_count=known.sign_count,
                require_user_verification=True,
            )
            challenges.use(challenge, number)
            return replace(known, sign_count=found.new_sign_count, used=now)

        directory.use_passkey(number, given.raw_id, shown)
    return account


class _refusing:
    """Turns what the library, or what an answer is read with, finds wrong into Refused. The log says what it was."""

    def __init__(self, who: str) -> None:
        self._who = who

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, WebAuthnException | NoSuchUser | ValueError | TypeError | KeyError | RecursionError):
            log.event("login.passkey", "warning", account=self._who, why=str(error)[:200])
            raise Refused(NOT_RIGHT) from None


def _bounded(answer: str) -> str:
    if len(answer) > LONGEST:
        raise ValueError("the answer is too long")
    return answer


def _challenge(client_data: bytes) -> bytes:
    """What the browser says that it was asked with; the library compares it again."""
    found = json.loads(client_data)
    if not isinstance(found, dict) or not isinstance(found.get("challenge"), str):
        raise ValueError("client data without a challenge")
    return base64url_to_bytes(found["challenge"])


def _described(known: Sequence[Passkey]) -> list[w3c.PublicKeyCredentialDescriptor]:
    there = {one.value: one for one in w3c.AuthenticatorTransport}
    return [
        w3c.PublicKeyCredentialDescriptor(
            id=one.id, transports=[there[word] for word in one.transports if word in there] or None
        )
        for one in known
    ]
