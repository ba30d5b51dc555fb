"""Several certificates: which one a client gets for the name that it asks for, now and after a reload (RFC 6066 3)."""

import asyncio
import gc
import hashlib
import ssl
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from fastmail.model.errors import ConfigError
from fastmail.net.sni import Context, Pair, hush_bad_names
from fastmail.net.tls import ServerTls, reload_beside
from tests.support import certificates
from tests.support.authorities import Authority


class Place:
    """A server with a default certificate and others; ``held``: another process gives it the files."""

    def __init__(self, path: Path, held: bool = False) -> None:
        self.path = path
        self.held = held
        self.known: dict[bytes, str] = {}

    def write(self, stem: str, *names: str) -> None:
        self.known[certificates.write(self.path, stem, names)] = stem

    def pair(self, stem: str, *names: str) -> Pair:
        return Pair(str(self.path / f"{stem}.pem"), str(self.path / f"{stem}.key"), names)

    def begin(self, *more: Pair, client_ca: str = "", minimum: str = "1.2") -> ServerTls:
        first = self.pair("default")
        tls = ServerTls(first.certificate, first.key, minimum, client_ca, "", more)
        if self.held:
            tls.source = lambda: [self._content(name) for name in tls.files]
            tls.reload()
        return tls

    def _content(self, name: str) -> bytes:
        path = Path(name)
        return path.read_bytes() if name and path.exists() else b""

    def ask(self, tls: ServerTls, name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
        """Which certificate a client gets that asks for a name."""
        client = certificates.any_certificate()
        client.minimum_version = client.maximum_version = version
        return self.known[shaken(tls, client, name)[0]]


def shaken(tls: ServerTls, client: ssl.SSLContext, name: str | None) -> tuple[bytes, ssl.SSLObject]:
    """The certificate that the client saw, and the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = tls.context.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(6):
        for end in (there, here):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    here.write(b"x")
    assert there.read(1) == b"x"
    return there.getpeercert(True) or b"", here


@pytest.fixture(params=[False, True], ids=["own files", "held files"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    made = Place(tmp_path, request.param)
    made.write("default", "mx.example.org", "mail.a.test")
    made.write("a", "mail.a.test", "A.Test", "*.a.test", "f*.odd.test")
    made.write("b", "*.b.test", "mx.example.org")
    made.write("c")
    return made


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (None, "default"),
        ("mx.example.org", "default"),  # also in b, but the default comes first
        ("unknown.test", "default"),
        ("mail.a.test", "default"),
        ("a.test", "a"),
        ("IMAP.A.TEST", "a"),
        ("imap.a.test.", "a"),
        ("x.imap.a.test", "default"),  # a wildcard stands for one label
        ("fox.odd.test", "default"),  # and is a whole label
        ("b.test", "default"),
        ("x.b.test", "b"),
        ("shop.b.test", "c"),  # the name itself wins over a wildcard
        ("any.c.test", "c"),
        ("xn--strae-oqa.test", "c"),
        ("127.0.0.1", "default"),
        ("a" * 63 + ".a.test", "a"),
    ],
)
def test_the_certificate_is_that_of_the_name(place: Place, name: str, stem: str, version: ssl.TLSVersion) -> None:
    tls = place.begin(place.pair("a"), place.pair("b"), place.pair("c", "shop.b.test", "*.c.test", "stra\u00dfe.test"))
    assert place.ask(tls, name, version) == stem


def test_names_that_are_given_win_over_those_in_certificates(place: Place) -> None:
    tls = place.begin(place.pair("a"), place.pair("b", "mail.a.test"))
    assert place.ask(tls, "mail.a.test") == "b"
    assert place.ask(tls, "x.b.test") == "default", "its own names do not count then"


def test_a_reload_takes_all_and_a_broken_file_keeps_its_own_old_one(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = place.begin(place.pair("a"), place.pair("b"))
    old = dict(place.known)
    place.known.clear()
    place.write("default", "mx.example.org")
    place.write("a", "new.test")
    (place.path / "b.key").write_bytes(b"nothing")
    tls.reload()
    assert place.ask(tls, None) == "default" and place.ask(tls, "new.test") == "a"
    assert place.ask(tls, "a.test") == "default", "the new certificate has other names"
    said = capsys.readouterr().err
    assert "level=error event=tls.reload" in said and f"{place.path}/b.pem" in said and "old certificate" in said
    place.known.update(old)
    assert place.ask(tls, "x.b.test") == "b"
    place.write("b", "*.b.test")
    (place.path / "default.pem").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot use certificate"):
        tls.reload()
    assert place.ask(tls, None) == "default" and place.ask(tls, "new.test") == "a"


def test_a_reload_makes_only_what_has_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of certificates are not loaded again for one that is new."""
    tls = place.begin(place.pair("a"), place.pair("b"), place.pair("c", "c.test"))
    made: list[str] = []
    one = tls._one

    def counted(pair: Pair, *rest: list[bytes]) -> Context:
        made.append(Path(pair.certificate).stem)
        return one(pair, *rest)

    monkeypatch.setattr(tls, "_one", counted)
    before = list(tls._others)
    place.write("b", "*.b.test")
    tls.reload()
    assert made == ["default", "b"]
    assert tls._others[0] is before[0] and tls._others[1] is not before[1] and tls._others[2] is before[2]
    for name, stem in (("a.test", "a"), ("x.b.test", "b"), ("c.test", "c"), (None, "default")):
        assert place.ask(tls, name) == stem

    key = (place.path / "a.key").read_bytes()
    for content, expected in ((b"nothing", ["default", "a"]), (b"nothing", ["default", "a"]), (key, ["default"])):
        made.clear()
        (place.path / "a.key").write_bytes(content)
        tls.reload()
        assert made == expected and tls._others[0] is before[0], "a broken one is tried each time; its old one stays"


def test_what_clients_show_is_judged_by_the_newest_files_for_all_names(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    ca = tmp_path / "clients.pem"
    ca.write_bytes(old.file.read_bytes())
    place = Place(tmp_path)
    place.write("default", "mx.example.org")
    place.write("a", "a.test")
    tls = place.begin(place.pair("a"), client_ca=str(ca))
    before = tls._others[0]
    ca.write_bytes(new.file.read_bytes())
    tls.reload()
    assert tls._others[0] is not before
    client = new.context("a@example.test")
    for name in ("mx.example.org", "a.test"):
        assert shaken(tls, client, name)[1].getpeercert()


def test_files_that_are_written_while_they_are_read_are_read_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.write("default", "mx.example.org")
    place.write("a", "a.test")
    tls = place.begin(place.pair("a"))
    load = tls._load

    def late(context: ssl.SSLContext, pair: Pair, *rest: Any) -> None:
        load(context, pair, *rest)
        if pair.certificate.endswith("a.pem"):
            place.write("a", "a.test")

    place.write("a", "a.test")
    between = (tmp_path / "a.pem").read_bytes(), (tmp_path / "a.key").read_bytes()
    with monkeypatch.context() as during:
        during.setattr(tls, "_load", late)
        tls.reload()
    assert tls._others[0].made_of == b""
    (tmp_path / "a.pem").write_bytes(between[0])
    (tmp_path / "a.key").write_bytes(between[1])
    seen = tls._others[0]
    tls.reload()
    assert tls._others[0] is not seen and tls._others[0].made_of


@pytest.mark.parametrize("good", [True, False], ids=["good", "damaged"])
def test_an_rsa_key_that_is_held_is_proved_by_a_signature(tmp_path: Path, good: bool) -> None:
    place = Place(tmp_path, held=True)
    place.known[certificates.write(tmp_path, "default", ["mx.example.org"], kind="rsa")] = "default"
    tls = place.begin()
    assert place.ask(tls, None) == "default"
    if not good:
        certificates.damage(tmp_path / "default.key")
        with pytest.raises(ConfigError, match="the key is damaged"):
            tls.reload()
    assert place.ask(tls, None) == "default"


def test_at_the_start_each_must_be_right(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"c.pem has no DNS name in it, and no names are given"):
        place.begin(place.pair("c"))
    with pytest.raises(ConfigError, match=r"cannot use certificate .*nobody.pem"):
        place.begin(place.pair("nobody"))


def test_where_clients_show_certificates_nothing_old_stays_beside_the_new(tmp_path: Path) -> None:
    """An old context would go on to accept what was revoked since."""
    authority = Authority(tmp_path, "known")
    place = Place(tmp_path)
    place.write("default", "mx.example.org")
    place.write("a", "a.test")
    tls = place.begin(place.pair("a"), client_ca=str(authority.file))
    client = authority.context("a@example.test")
    for name in ("mx.example.org", "a.test"):
        _, here = shaken(tls, client, name)
        assert here.getpeercert(), "both ask for it"
    before = tls.context
    (tmp_path / "a.key").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="a.pem"):
        tls.reload()
    assert tls.context is before


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_what_holds_for_one_holds_for_all(place: Place, minimum: str) -> None:
    """The lowest version, protocols by ALPN, no tickets; and the end point is that of the certificate shown."""
    tls = place.begin(place.pair("a"), minimum=minimum)
    client = certificates.any_certificate()
    client.set_alpn_protocols(["imap"])
    ends = set()
    for name in ("mx.example.org", "a.test"):
        seen, here = shaken(tls, client, name)
        assert here.selected_alpn_protocol() == "imap"
        assert isinstance(here.context, Context)
        assert here.context.end_point == hashlib.sha256(seen).digest()
        assert here.context.num_tickets == 0 and here.context.options & ssl.OP_NO_TICKET
        ends.add(here.context.end_point)
        if minimum == "1.3":
            with pytest.raises(ssl.SSLError):
                place.ask(tls, name, ssl.TLSVersion.TLSv1_2)
    assert len(ends) == 2


def test_a_name_that_is_not_ascii_ends_the_handshake_and_is_not_logged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = place.begin(place.pair("a"))
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    hush_bad_names()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = certificates.any_certificate().wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    to_server.write(to_server.read().replace(b"a.test", b"\xc3\xbctest"))
    with pytest.raises(ssl.SSLError, match="callback failed"):
        here.do_handshake()
    assert told == []


def test_contexts_that_no_session_has_are_freed_at_once(place: Place) -> None:
    tls = place.begin(place.pair("a"))
    old = weakref.ref(tls.context)
    gc.disable()
    try:
        tls.reload()
        assert old() is None
    finally:
        gc.enable()


def test_the_event_loop_goes_on_while_files_are_read(place: Place) -> None:
    tls = place.begin(place.pair("a"))
    before = tls.context

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tls._making:  # as if another one still read them
            reload_beside(loop, tls)
            assert tls.context is before
        await loop.shutdown_default_executor()
        assert tls.context is not before

    asyncio.run(main())
