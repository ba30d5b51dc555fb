"""Which certificate a client gets: that of the name which it asks for in its handshake (SNI, RFC 6066 3).

A certificate serves the names that the configuration gives it, else the DNS names of its subjectAltName. A wildcard is
the whole left-most label and stands for one label (RFC 6125 6.4.3, RFC 9525 6.3). A name as it is wins over a
wildcard; a name that the configuration gives over one that is only in a certificate; and then the default certificate,
and the first. A client that names nothing, or nothing that is known, gets the default certificate: mail servers, and
programs that know only an address, go on.

What is chosen costs a session no memory: it has the other context instead of the default one.
"""

import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fastmail.model.domain import comparable

Choose = Callable[[ssl.SSLObject | ssl.SSLSocket, str | None, ssl.SSLContext], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key. ``names``: what it serves; empty for the names in it."""

    certificate: str
    key: str
    names: tuple[str, ...] = ()


class Context(ssl.SSLContext):
    """A context of the server with one certificate. ``end_point``: the digest of the certificate, which identifies this
    end of a channel (RFC 5929 4.1); ``names``: those that it serves, as ``chooser`` compares them; ``given``: they are
    of the configuration; ``made_of``: a digest of the content of its files, empty where that is not known."""

    end_point: bytes = b""
    made_of: bytes = b""
    names: tuple[str, ...] = ()
    given: bool = False


def names_of(certificate: x509.Certificate) -> list[str]:
    """DNS names of the subject alternative name; clients look at no other."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return []
    assert isinstance(found, x509.SubjectAlternativeName)
    return found.get_values_for_type(x509.DNSName)


def served(names: Sequence[str]) -> tuple[str, ...]:
    """Return names in the form in which they are compared: A-labels in lower case, ``*.`` before a wildcard's rest."""
    return tuple(f"*.{comparable(one[2:])}" if one.startswith("*.") else comparable(one) for one in names)


def chooser(default: Context, others: Sequence[Context]) -> Choose:
    """Return what a default context calls in each handshake (``sni_callback``)."""
    # None stands for the default context: one that knew itself would not be freed when another takes its place
    table: dict[str, Context | None] = {}
    given = [one for one in others if one.given]
    for context in [*given, None, *others]:
        for name in (context or default).names:
            table.setdefault(name, context)

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        wanted = (name or "").lower().rstrip(".")
        if wanted not in table:
            wanted = "*." + wanted.partition(".")[2]
        found = table.get(wanted)
        if found is not None:
            connection.context = found

    return choose


def hush_bad_names() -> None:
    """Keep names that are not ASCII out of the log of this process: Python refuses the handshake by itself, and would
    write a traceback for each."""
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError) or not isinstance(unraisable.object, bytes):
            usual(unraisable)

    sys.unraisablehook = hook
