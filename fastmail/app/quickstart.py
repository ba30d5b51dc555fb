"""Creates the first files of a server: configuration, self-signed certificate, data directory, first domain and
account.
"""

import datetime
import ipaddress
import os
import re

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fastmail.auth import schemes
from fastmail.config.load import refuse_path
from fastmail.directory.local import LocalDirectory
from fastmail.durable.replace import replace_file
from fastmail.model.address import Address
from fastmail.model.errors import ConfigError, in_words

PORTS = {
    "smtp": (25, 2525),
    "submission": (587, 2587),
    "submissions": (465, 2465),
    "lmtp": (24, 2424),
    "imap": (143, 2143),
    "imaps": (993, 2993),
    "pop3": (110, 2110),
    "pop3s": (995, 2995),
}


def write_certificate(directory: str, hostname: str) -> None:
    """``cert.pem`` and ``key.pem`` (mode 0600) for hostname, localhost and the loopback addresses, for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(n) for n in dict.fromkeys([hostname, "localhost"])]
    names += [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(os.path.join(directory, "key.pem"), private)
    replace_file(os.path.join(directory, "cert.pem"), certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def configuration(hostname: str, standard_ports: bool) -> str:
    """The first fastmail.toml."""
    host = "" if standard_ports else "127.0.0.1"
    lines = []
    for name, (standard, high) in PORTS.items():
        local = "127.0.0.1" if name == "lmtp" else host or "0.0.0.0"
        lines.append(f'{name} = ["{local}:{standard if standard_ports else high}"]')
    web, web_port = ("0.0.0.0:443", "") if standard_ports else ("127.0.0.1:2443", ":2443")
    return f"""# fastmail: `fastmail config-reference` prints every setting with its meaning.

[server]
hostname = "{hostname}"
data_dir = "data"

[listen]
{chr(10).join(lines)}

[tls]
# self-signed, for trying out: put a real certificate here and send SIGHUP
certificate = "cert.pem"
key = "key.pem"

[auth]
# passwords without TLS only from this machine
plaintext_without_tls = "loopback"

[store]
content = "maildir"
maildir = "mail/{{domain}}/{{user}}"

# members of mailing lists leave with one click by a web page (docs/operating.md)
# [web]
# listen = ["{web}"]
# url = "https://{hostname}{web_port}"

# users may send to other servers as it is; through a smart host, or with filters, it is
# [relay]
# routes = ["* smtp:smarthost.example.net:587 login=me password_file=secret"]
# [filters]
# smtp = ["127.0.0.1:11332"]
"""


def quickstart(
    directory: str, address: Address, hostname: str, password: str, standard_ports: bool, actor: str = ""
) -> str:
    """Create everything and return the path of the configuration. ConfigError if there is one already. ``actor``: whose
    doing it is, for the audit log."""
    path = os.path.join(directory, "fastmail.toml")
    refuse_path(path)
    if os.path.exists(path):
        raise ConfigError(f"{path} is already there; choose another directory, or `fastmail serve -c {path}`")
    try:
        os.makedirs(os.path.join(directory, "data"), mode=0o700, exist_ok=True)
        write_certificate(directory, hostname)
        accounts = LocalDirectory(os.path.join(directory, "data"))
        accounts.actor = actor or accounts.actor
        try:
            if not accounts.is_local(address.domain):
                accounts.add_domain(address.domain)
            accounts.add_accounts(
                [(address.key, schemes.hash_password(password), schemes.scram(password))], replace=True
            )
            postmaster = f"postmaster@{address.domain}"
            if address.key != postmaster and accounts.alias(postmaster) is None:
                accounts.add_alias(postmaster, [address.key])
        finally:
            accounts.close()
        replace_file(path, configuration(hostname, standard_ports).encode(), mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {directory}: {in_words(error, directory)}") from None
    return path


def remember(directory: str, address: str, password: str) -> None:
    """Keep a made-up password for `fastmail welcome`, readable by its owner only."""
    replace_file(os.path.join(directory, "welcome"), f"Account: {address}\nPassword: {password}\n".encode())


def remembered(directory: str) -> tuple[str, str]:
    """Return (address, password) that ``remember``, or an earlier `make run`, wrote down; empty if there is none."""
    try:
        with open(os.path.join(directory, "welcome"), encoding="utf-8") as file:
            text = file.read(4096)
    except (OSError, UnicodeDecodeError):
        return "", ""
    found = re.search(r"^(?:Account: |Wrote .* with the account )(\S+?)\.?$", text, re.MULTILINE)
    password = re.search(r"^Password: (\S+)$", text, re.MULTILINE)
    return (found[1], password[1]) if found and password else ("", "")
