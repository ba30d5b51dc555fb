"""Private keys that mail is signed with: made, kept in files, and read again (RFC 6376 3.3, RFC 8301 3.2, RFC 8463).

A key is PKCS#8 in PEM at ``dkim/DOMAIN/SELECTOR.pem`` below the data directory. The server's user alone may read it.

Promise: when ``keep`` returns, the file and its name are on the disk, so that a row of the directory may name it; it
never replaces a file that is there. What cannot be read, or is no key that mail is signed with, is KeyTrouble, which
says which file it is and never what is in it. Everything here waits for the disk.
"""

import os
from contextlib import suppress

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fastmail.directory.records import ED25519, RSA
from fastmail.durable.replace import make_directories, sync_directory, sync_file
from fastmail.model.domain import ascii_name
from fastmail.model.errors import MailError

PLACE = "dkim"
MODE = 0o600
LEAST, MOST = 2048, 4096  # bits of RSA keys that we make or take; verifiers know no longer ones (RFC 8301 3.2)
EXPONENT = 65537
LONGEST = 65536  # octets of a file
PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class KeyTrouble(MailError):
    """A private key cannot be had or kept; the text is for the administrator."""


def make(kind: str, bits: int = LEAST) -> PrivateKey:
    """A new key. One of RSA takes 50 to 500 ms."""
    if kind == ED25519:
        return Ed25519PrivateKey.generate()
    return generate_private_key(EXPONENT, bits)


def kind_of(key: PrivateKey) -> str:
    return RSA if isinstance(key, RSAPrivateKey) else ED25519


def place_of(domain: str, selector: str) -> str:
    """Where the key of a selector lies, below the data directory."""
    return f"{PLACE}/{ascii_name(domain)}/{selector}.pem"


def selectors(data_dir: str, domain: str) -> set[str]:
    """Those that have files, also where no row names them: a crash may have come between the two."""
    try:
        names = os.listdir(os.path.dirname(os.path.join(data_dir, place_of(domain, ""))))
    except OSError:
        return set()
    return {name.removesuffix(".pem") for name in names}


def keep(data_dir: str, place: str, key: PrivateKey) -> None:
    """Write a new file. KeyTrouble."""
    store(data_dir, place, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def store(data_dir: str, place: str, text: bytes) -> None:
    """The same for a key that is text already, as ``text_of`` gives it."""
    path = os.path.join(data_dir, place)
    try:
        make_directories(os.path.dirname(path))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), MODE)  # whatever the umask is
                file.write(text)
                sync_file(file)
        except BaseException:
            os.unlink(path)
            raise
        sync_directory(os.path.dirname(path))
    except FileExistsError:
        raise KeyTrouble(f"{path} is already there: choose another selector, or move that file away") from None
    except OSError as error:
        raise KeyTrouble(f"{path}: {error.strerror}") from None


def text_of(data_dir: str, place: str) -> bytes:
    """The file of a key as it is. KeyTrouble."""
    path = os.path.join(data_dir, place)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(LONGEST)
    except OSError as error:
        raise KeyTrouble(f"{path}: {error.strerror}") from None


def load(data_dir: str, place: str) -> PrivateKey:
    """The key of a file: PEM, in any of the forms that other programs write, without a password. KeyTrouble."""
    path = os.path.join(data_dir, place)
    try:
        key = load_pem_private_key(text_of(data_dir, place), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyTrouble(f"{path} is no private key in PEM, or has a password") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise KeyTrouble(f"{path}: mail is signed with keys of RSA or Ed25519")
    if not LEAST <= key.key_size <= MOST:
        raise KeyTrouble(f"{path}: an RSA key of {LEAST} to {MOST} bits is expected, not of {key.key_size}")
    return key


def remove(data_dir: str, place: str) -> None:
    """Let go of a file; one that is not there is no trouble. Only files that ``keep`` named are ours to remove."""
    if not place.startswith(PLACE + "/"):
        return
    path = os.path.join(data_dir, place)
    with suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))
