"""Is the certificate one that clients will take: now, for this server's name (RFC 6125 6.4)?

That it can be read and belongs to the key is seen when it is loaded (net.tls). What is found here keeps no server from
starting: between mail servers TLS with a bad certificate is better than none, and the mail goes on.
"""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fastmail.config.settings import Config
from fastmail.net.tls import revocations
from fastmail.relay.dane import matches


def _chain(config: Config) -> list[x509.Certificate]:
    with open(config.tls.certificate, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def expires(config: Config) -> datetime:
    """When it, or another one of its chain, expires first; ValueError, OSError where it cannot be read."""
    return min(one.not_valid_after_utc for one in _chain(config))


def faults(config: Config) -> list[str]:
    """What is wrong with it, a sentence each; ValueError, OSError where it cannot be read."""
    if not config.tls.certificate:
        return []
    chain = _chain(config)
    now = datetime.now(UTC)
    out = []
    for position, one in enumerate(chain):
        which = "the certificate" if not position else f"certificate {position + 1} of the chain"
        if now > one.not_valid_after_utc:
            out.append(f"{which} has expired, on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if now < one.not_valid_before_utc:
            out.append(f"{which} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if config.tls.client_crl:
        with open(config.tls.client_crl, "rb") as file:
            lists = revocations(file.read())
        for old in lists:
            if old.next_update_utc is not None and now > old.next_update_utc:
                whose = old.issuer.rfc4514_string()
                out.append(f"the list of what {whose} has revoked has expired: no client certificate of it is taken")
    names = _names(chain[0])
    if not any(matches(name, config.server.hostname) for name in names):
        shown = ", ".join(names[:5]) or "none"
        out.append(f"the certificate is not for {config.server.hostname}: its names are {shown}")
    return out


def _names(certificate: x509.Certificate) -> list[str]:
    """DNS names of the subject alternative name; clients look at no other."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return []
    assert isinstance(found, x509.SubjectAlternativeName)
    return found.get_values_for_type(x509.DNSName)
