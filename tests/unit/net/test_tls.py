"""S27: who vouches for clients, and what is revoked, is read again with the certificate; no session outlives that."""

import datetime
import ssl
from pathlib import Path

import pytest

from fastmail.app.quickstart import write_certificate
from fastmail.config import certificate
from fastmail.config.settings import Config
from fastmail.model.errors import ConfigError
from fastmail.net.tls import ServerTls, reload_or_keep
from tests.support.authorities import Authority


class Place:
    """Files of a server, which reads them itself or gets them from somebody who may (``held``)."""

    def __init__(self, path: Path, held: bool = False) -> None:
        write_certificate(str(path), "mx.example.test")
        self.cert, self.key = path / "cert.pem", path / "key.pem"
        self.ca, self.crl = path / "clients.pem", path / "revoked.pem"
        self.held = held
        self.tls: ServerTls | None = None

    def begin(self, ca: bytes, crl: bytes | None = None) -> ServerTls:
        self.ca.write_bytes(ca)
        if crl is not None:
            self.crl.write_bytes(crl)
        self.tls = ServerTls(str(self.cert), str(self.key), "1.2", str(self.ca), str(self.crl) if crl else "")
        if self.held:
            names = (self.cert, self.key, self.ca, self.crl)
            self.tls.source = lambda: [one.read_bytes() if one.exists() else b"" for one in names]
            self.tls.reload()
        return self.tls


def shake(tls: ServerTls, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject | None:
    """The client's end after a handshake in which it showed its certificate; None when the server took it not."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = tls.context.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, session=session)
    for _ in range(6):
        for end in (there, here):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return None
    here.write(b"x")
    assert there.read(1) == b"x"
    return there if here.getpeercert() or session else None


@pytest.mark.parametrize("held", [False, True])
def test_s27_authorities_of_clients_are_read_again(tmp_path: Path, held: bool) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    of_old, of_new = old.context("a@example.test"), new.context("a@example.test")
    place = Place(tmp_path, held)
    tls = place.begin("# Bürgschaften\n".encode() + old.file.read_bytes())
    assert shake(tls, of_old) and not shake(tls, of_new)
    place.ca.write_bytes(old.file.read_bytes() + new.file.read_bytes())
    tls.reload()
    assert shake(tls, of_old) and shake(tls, of_new)
    place.ca.write_bytes(new.file.read_bytes())
    tls.reload()
    assert not shake(tls, of_old) and shake(tls, of_new)
    for bad in (b"", b"nothing", old.file.read_bytes()[:-60]):
        place.ca.write_bytes(bad)
        with pytest.raises(ConfigError, match="client authorities"):
            tls.reload()
        assert not shake(tls, of_old) and shake(tls, of_new), "all stays as it was"


def test_a_process_goes_on_with_what_it_has_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What SIGHUP does in workers and in the web process, whose server may have no TLS."""
    authority = Authority(tmp_path, "known")
    context = authority.context("a@example.test")
    place = Place(tmp_path)
    tls = place.begin(authority.file.read_bytes())
    reload_or_keep(None)
    reload_or_keep(tls)
    assert "event=tls.reloaded" in capsys.readouterr().err
    place.ca.write_bytes(b"nothing")
    reload_or_keep(tls)
    said = capsys.readouterr().err
    assert "level=error event=tls.reload" in said and "tls.reloaded" not in said and shake(tls, context)


@pytest.mark.parametrize("held", [False, True])
def test_s27_a_certificate_that_is_revoked_is_not_taken(tmp_path: Path, held: bool) -> None:
    authority = Authority(tmp_path, "known")
    one, first = authority.context("a@example.test"), authority.given
    two, second = authority.context("b@example.test"), authority.given
    place = Place(tmp_path, held)
    tls = place.begin(authority.file.read_bytes(), authority.revoked(first))
    assert not shake(tls, one) and shake(tls, two)
    place.crl.write_bytes(authority.revoked(first, second))
    tls.reload()
    assert not shake(tls, one) and not shake(tls, two)
    place.crl.write_bytes(authority.revoked(second))
    tls.reload()
    assert shake(tls, one) and not shake(tls, two)
    for bad in (b"", b"nothing", authority.file.read_bytes(), authority.revoked(first).replace(b"M", b"", 3)):
        place.crl.write_bytes(bad)
        with pytest.raises(ConfigError, match="revoked client certificates"):
            tls.reload()
        assert shake(tls, one) and not shake(tls, two), "all stays as it was"


def test_s27_no_list_or_an_old_one_is_no_permission(tmp_path: Path) -> None:
    known, other = Authority(tmp_path, "known"), Authority(tmp_path, "other")
    of_known, of_other = known.context("a@example.test"), other.context("a@example.test")
    place = Place(tmp_path)
    tls = place.begin(known.file.read_bytes() + other.file.read_bytes(), known.revoked())
    assert shake(tls, of_known) and not shake(tls, of_other)
    place.crl.write_bytes(known.revoked() + other.revoked())
    tls.reload()
    assert shake(tls, of_known) and shake(tls, of_other)
    place.crl.write_bytes(known.revoked() + other.revoked(until=-datetime.timedelta(hours=1)))
    tls.reload()
    assert shake(tls, of_known) and not shake(tls, of_other)
    config = Config()
    config.server.hostname = "mx.example.test"
    config.tls.certificate, config.tls.client_crl = str(place.cert), str(place.crl)
    assert [why for path, why in certificate.faults(config) if path == str(place.crl)] == [
        "the list of what CN=other has revoked has expired: no client certificate of it is taken"
    ]


def test_s27_a_list_is_of_its_own_authority_and_adds_none(tmp_path: Path) -> None:
    known, stranger = Authority(tmp_path, "known"), Authority(tmp_path, "stranger")
    false = Authority(tmp_path, "known")  # of the same name, with another key
    place = Place(tmp_path)
    tls = place.begin(
        known.file.read_bytes() if known.file.read_bytes() else b"", false.revoked() + stranger.file.read_bytes()
    )
    assert not shake(tls, known.context("a@example.test"))
    place.crl.write_bytes(known.revoked() + stranger.revoked() + stranger.file.read_bytes())
    tls.reload()
    assert not shake(tls, stranger.context("a@example.test")), "a certificate among the lists is not trusted"


def test_s27_an_authority_below_another_may_be_revoked(tmp_path: Path) -> None:
    root = Authority(tmp_path, "root")
    below = Authority(tmp_path, "below", root)
    client = below.context("a@example.test")
    place = Place(tmp_path)
    tls = place.begin(root.file.read_bytes(), root.revoked() + below.revoked())
    assert shake(tls, client)
    place.crl.write_bytes(root.revoked(below.certificate.serial_number) + below.revoked())
    tls.reload()
    assert not shake(tls, client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_s27_no_session_goes_on_after_its_certificate_was_revoked(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """And there is no key of tickets that could be stolen, or that workers would have to share."""
    authority = Authority(tmp_path, "known")
    client = authority.context("a@example.test")
    client.minimum_version = client.maximum_version = version
    place = Place(tmp_path)
    tls = place.begin(authority.file.read_bytes(), authority.revoked())
    first = shake(tls, client)
    assert first is not None and (first.session is None or not first.session.has_ticket)
    again = shake(tls, client, first.session)
    assert again is not None
    place.crl.write_bytes(authority.revoked(authority.given))
    tls.reload()
    assert shake(tls, client, first.session) is None


def test_a_new_certificate_and_its_end_point_come_together(tmp_path: Path) -> None:
    place = Place(tmp_path)
    authority = Authority(tmp_path, "known")
    tls = place.begin(authority.file.read_bytes())
    before, context = tls.end_point, tls.context
    place.key.write_bytes(b"nothing")
    with pytest.raises(ConfigError):
        tls.reload()
    assert (tls.end_point, tls.context) == (before, context)
    place.cert.unlink()
    place.key.unlink()
    write_certificate(str(tmp_path), "mx.example.test")
    tls.reload()
    assert tls.end_point != before and shake(tls, authority.context("a@example.test"))


def test_lists_without_authorities_are_a_mistake(tmp_path: Path) -> None:
    from fastmail.config.load import load

    path = tmp_path / "fastmail.toml"
    path.write_text('[tls]\nclient_crl = "revoked.pem"\n')
    with pytest.raises(ConfigError, match="client_crl says what the authorities of client_ca have revoked"):
        load(str(path))
