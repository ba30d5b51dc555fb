"""S47: an account that was switched off, or removed, is let in by no mechanism."""

import asyncio

import pytest
from msgspec.structs import replace

from fastmail.auth import sasl, schemes
from fastmail.auth.verifier import Verifier
from tests.support.sessions import USER, FakeDirectory

CLAIMS = [
    sasl.Credentials(USER, b"secret"),
    sasl.Verified(USER),  # an exchange of SCRAM, or a certificate, that is finished
]


@pytest.mark.parametrize("claim", CLAIMS, ids=["password", "verified"])
@pytest.mark.parametrize("state", ["on", "off", "gone"])
def test_s47_only_accounts_that_are_on_are_let_in(claim: sasl.Claim, state: str) -> None:
    async def main() -> None:
        directory = FakeDirectory()
        verifier = Verifier(directory, 1)
        try:
            assert await verifier.admit(claim) is not None  # and perhaps it is remembered
            if state == "off":
                directory.accounts[USER] = replace(directory.accounts[USER], enabled=False)
            elif state == "gone":
                del directory.accounts[USER]
            assert (await verifier.admit(claim) is not None) == (state == "on")
        finally:
            verifier.close()

    asyncio.run(main())


def test_s47_scram_has_no_keys_of_an_account_that_is_off() -> None:
    """The exchange goes on with keys of nobody, so that it looks like a wrong password."""
    directory = FakeDirectory()
    scram = schemes.scram_keys
    made: list[str] = []

    def noting(stored: str, name: str) -> object:
        made.append(stored)
        return scram(stored, name)

    verifier = Verifier(directory, 1)
    directory.accounts[USER] = replace(directory.accounts[USER], enabled=False)
    schemes.scram_keys = noting  # type: ignore[assignment]
    try:
        verifier._scram_keys(USER, "SCRAM-SHA-256")
    finally:
        schemes.scram_keys = scram
        verifier.close()
    assert made == []
