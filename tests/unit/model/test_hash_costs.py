"""model.hash_costs: what checks cost is read from the hashes, and never more is spent than is allowed."""

import base64
import time

import pytest

from fastmail.auth import schemes
from fastmail.model import hash_costs
from fastmail.model.hash_costs import EVERYTHING, NOTHING, OCTETS, SECONDS

SALT = "c29tZXNhbHQ"
DIGEST = "A" * 43
CHEAP = {
    "argon2id": f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=3,p=4${SALT}${DIGEST}",
    "argon2i without a version": f"{{ARGON2I}}$argon2i$m=4096,t=3,p=1${SALT}${DIGEST}",
    "bcrypt": "{BLF-CRYPT}$2y$12$" + "a" * 53,
    "sha512-crypt": "{SHA512-CRYPT}$6$saltsalt$" + "a" * 86,
    "sha256-crypt with rounds": "{CRYPT}$5$rounds=535000$saltsalt$" + "a" * 43,
    "pbkdf2": "{PBKDF2}$1$salt$600000$" + "00" * 20,
    "scram": "{SCRAM-SHA-256}600000," + ",".join([SALT + "="] * 3),
    "yescrypt as Debian makes it": "{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "gost-yescrypt": "{CRYPT}$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "scrypt": "{CRYPT}$7$CU..../....saltsalt$" + "a" * 43,
    "a plain password": "{PLAIN}" + "x" * 100,
    "nothing": "",
}
DEAR = {
    "argon2id in memory": f"{{ARGON2ID}}$argon2id$v=19$m=1048576,t=1,p=4${SALT}${DIGEST}",
    "argon2id in passes": f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=4000000000,p=4${SALT}${DIGEST}",
    "argon2id in threads": f"{{ARGON2ID}}$argon2id$v=19$m=262144,t=1,p=30000${SALT}${DIGEST}",
    "bcrypt": "{BLF-CRYPT}$2b$31$" + "a" * 53,
    "bcrypt by its form": "{CRYPT}$2y$17$" + "a" * 53,
    "sha512-crypt": "{SHA512-CRYPT}$6$rounds=999999999$saltsalt$" + "a" * 86,
    "sha256-crypt": "{CRYPT}$5$rounds=999999999$saltsalt$" + "a" * 43,
    "pbkdf2": "{PBKDF2}$1$salt$2000000000$" + "00" * 20,
    "scram": "{SCRAM-SHA-256}99999999," + ",".join([SALT + "="] * 3),
    "yescrypt in memory": "{CRYPT}$y$jKT$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "yescrypt in time": "{CRYPT}$y$j9T.zzz$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "yescrypt with what nobody knows": "{CRYPT}$y$j9T50$F5Jx5f$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "gost-yescrypt": "{CRYPT}$gy$jKT$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "scrypt in memory": "{CRYPT}$7$IU..../....saltsalt$" + "a" * 43,
    "scrypt in passes": "{CRYPT}$7$CU.......z.saltsalt$" + "a" * 43,
    "BSDI": "{CRYPT}_zzzz" + "a" * 15,
    "coded": "{SHA512-CRYPT.B64}" + base64.b64encode(b"$6$rounds=999999999$saltsalt$" + b"a" * 86).decode(),
    "in hexadecimal": "{BLF-CRYPT.HEX}" + (b"$2b$31$" + b"a" * 53).hex(),
    "in lower case": f"{{argon2id}}$argon2id$v=19$m=4194304,t=1,p=4${SALT}${DIGEST}",
    "cut short": "{CRYPT}$y$j",
    "no number of rounds": "{SHA512-CRYPT}$6$rounds=99999999999999$saltsalt$" + "a" * 86,
    "too long": "{CRYPT}" + "a" * 10_000,
}


@pytest.mark.parametrize("stored", list(CHEAP.values()), ids=list(CHEAP))
def test_what_people_use_is_taken(stored: str) -> None:
    assert hash_costs.refusal(stored) == "" and hash_costs.of(stored).seconds < SECONDS


@pytest.mark.parametrize("stored", list(DEAR.values()), ids=list(DEAR))
def test_what_costs_too_much_is_refused_and_opens_nothing(stored: str) -> None:
    assert hash_costs.refusal(stored)
    assert not schemes.known(stored)
    began = time.process_time()
    assert not schemes.verify(stored, b"password")
    assert time.process_time() - began < 0.1


def test_numbers_of_yescrypt() -> None:
    """``j9T``: N = 4096 and r = 32, as crypt(5) has it for cost 5; 16 MiB."""
    assert hash_costs.of(CHEAP["yescrypt as Debian makes it"]).octets == 128 * 32 * (4096 + 1)
    assert hash_costs.of(CHEAP["scrypt"]).octets == 128 * 32 * ((1 << 14) + 1)


def test_words_for_the_administrator() -> None:
    assert "need 1024 MiB, and 256 are allowed" in hash_costs.refusal(DEAR["argon2id in memory"])
    assert "s, and 2 are allowed" in hash_costs.refusal(DEAR["bcrypt by its form"])
    assert "cannot be read" in hash_costs.refusal(DEAR["cut short"])
    assert hash_costs.of("{PLAIN}x") == NOTHING and hash_costs.of(DEAR["cut short"]) == EVERYTHING
    assert OCTETS == 256 << 20


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", ["bcrypt", "sha512", "sha256", "argon2id", "pbkdf2"])
def test_the_dearest_that_are_taken_take_some_seconds_at_most(name: str) -> None:
    dearest = {
        "bcrypt": "{BLF-CRYPT}$2b$15$" + "abcdefghijklmnopqrstuu" + "a" * 31,
        "sha512": f"{{SHA512-CRYPT}}$6$rounds={int(hash_costs.SHA_CRYPT * SECONDS)}$saltsalt$" + "a" * 86,
        "sha256": f"{{SHA256-CRYPT}}$5$rounds={int(hash_costs.SHA_CRYPT * SECONDS)}$saltsalt$" + "a" * 43,
        "argon2id": f"{{ARGON2ID}}$argon2id$v=19$m=262144,t=8,p=1${SALT}${DIGEST}",
        "pbkdf2": f"{{PBKDF2}}$1$salt${int(hash_costs.PBKDF2 * SECONDS)}$" + "00" * 20,
    }[name]
    assert hash_costs.refusal(dearest) == ""
    began = time.process_time()
    assert not schemes.verify(dearest, b"a password")
    assert time.process_time() - began < 4 * SECONDS
