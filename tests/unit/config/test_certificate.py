"""Certificates that clients would not take: check-config says so."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from fastmail.cli.main import app
from fastmail.config import certificate
from fastmail.config.load import load
from fastmail.model.errors import ConfigError
from tests.support import certificates

DAY = datetime.timedelta(days=1)


def made(path: Path, names: list[str], begin: int = -1, end: int = 30, other_key: bool = False) -> str:
    """A configuration with a certificate that is valid from day ``begin`` to day ``end``."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.org")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now + begin * DAY).not_valid_after(now + end * DAY)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    (path / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    shown = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    form = serialization.PrivateFormat.PKCS8
    pem = shown.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (path / "key.pem").write_bytes(pem)
    (path / "f.toml").write_text(
        "[server]\nhostname = 'mx.example.org'\n[listen]\nimap = ['127.0.0.1:2143']\n"
        "[tls]\ncertificate = 'cert.pem'\nkey = 'key.pem'\n"
    )
    return str(path / "f.toml")


@pytest.mark.parametrize("names", [["mx.example.org"], ["*.example.org"], ["a.test", "MX.example.org"]])
def test_good_ones(tmp_path: Path, names: list[str]) -> None:
    config = made(tmp_path, names)
    assert certificate.faults(load(config)) == []
    assert CliRunner().invoke(app, ["check-config", "-c", config]).exit_code == 0


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"names": ["mx.example.org"], "begin": -9, "end": -2}, "has expired"),
        ({"names": ["mx.example.org"], "begin": 2}, "is not valid before"),
        ({"names": ["mail.example.org"]}, "is not for mx.example.org: its names are mail.example.org"),
        ({"names": ["*.mx.example.org", "example.org", "*"]}, "is not for mx.example.org"),
        ({"names": []}, "is not for mx.example.org: its names are none"),
        ({"names": ["mx.example.org"], "other_key": True}, "cannot use certificate"),
    ],
)
def test_bad_ones(tmp_path: Path, how: dict[str, object], wanted: str) -> None:
    config = made(tmp_path, **how)  # type: ignore[arg-type]
    done = CliRunner().invoke(app, ["check-config", "-c", config])
    assert done.exit_code == 78 and wanted in done.output, done.output


def test_other_certificates_are_looked_at_too(tmp_path: Path) -> None:
    """What is wrong with each is said with its file: when it ends, and which names it lacks or serves in vain."""
    config = made(tmp_path, ["mx.example.org"])
    certificates.write(tmp_path, "a", ["a.test", "*.a.test"])
    certificates.write(tmp_path, "b", ["b.test", "mx.example.org"], end=-1)
    more = "[[certificate]]\ncertificate = '{0}.pem'\nkey = '{0}.key'\n"
    with open(config, "a") as file:
        file.write(more.format("a") + more.format("a") + "names = ['imap.a.test', '*.a.test', 'straße.test']\n")
    loaded = load(config)
    assert [(one.certificate, one.names) for one in loaded.certificate] == [
        (str(tmp_path / "a.pem"), []),
        (str(tmp_path / "a.pem"), ["imap.a.test", "*.a.test", "xn--strae-oqa.test"]),
    ]
    a, b = str(tmp_path / "a.pem"), str(tmp_path / "b.pem")
    assert certificate.faults(loaded) == [
        (a, "the certificate is not for xn--strae-oqa.test: its names are a.test, *.a.test")
    ]
    with open(config, "a") as file:
        file.write(more.format("b"))
    found = certificate.faults(load(config))
    assert [one.path for one in found[1:]] == [b, b]
    assert found[1].why.startswith("the certificate has expired, on ")
    assert found[2].why == f"mx.example.org is served by {tmp_path}/cert.pem already"
    assert [one.path for one in certificate.ends(load(config))] == [str(tmp_path / "cert.pem"), a, a, b]
    done = CliRunner().invoke(app, ["check-config", "-c", config])
    assert done.exit_code == 78 and f"{b}: the certificate has expired" in done.output.replace("\n", " "), done.output


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("certificate = 'a.pem'\n", ":9: certificate and key go together"),
        ("certificate = 'a.pem'\nkey = 'a.key'\nnames = ['a b']\n", ":11: names: 'a b' is no name of a host"),
        ("certificate = 'a.pem'\nkey = 'a.key'\nnames = ['a.*.test']\n", "is no name of a host"),
        ("certificate = 'a.pem'\nkey = 'a.key'\nname = 'a'\n", "unknown key name in [[certificate]]"),
    ],
)
def test_sections_that_can_not_be_right(tmp_path: Path, text: str, wanted: str) -> None:
    config = made(tmp_path, ["mx.example.org"])
    with open(config, "a") as file:
        file.write("[[certificate]]\n" + text)
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert wanted in str(caught.value), caught.value


def test_other_certificates_need_one_for_everybody_else(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[[certificate]]\ncertificate = 'a'\nkey = 'b'\n")
    with pytest.raises(ConfigError, match=r"needs \[tls\] certificate and key"):
        load(str(tmp_path / "f.toml"))
