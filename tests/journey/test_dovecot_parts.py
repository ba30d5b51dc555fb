"""BODYSTRUCTURE and the octets of parts of odd messages, beside a Dovecot of our own."""

import imaplib
from pathlib import Path

import pytest

from fastmail._core.lines import to_crlf
from fastmail.message import sections, summary
from tests.support import dovecot
from tests.support.dovecot import Dovecot

pytestmark = [pytest.mark.peer("dovecot"), pytest.mark.root]
START = b"From: a@b.example\nContent-Type: multipart/mixed; boundary="
ODD = {
    "boundary of the parent": START + b"b\n\npre\n--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\n"
    b"Content-Type: text/html\n\nrich\n--b--\n\n--b\n\nafter\n--b--\nover\n",
    "the parent's, in a message": START + b"b\n\n--b\nContent-Type: message/rfc822\n\nSubject: in\n" + START
    + b"b\n\n--b\n\ninner text\n--b--\n\n--b\n\nlast\n--b--\n",
    "text behind boundaries": START + b"b\n\n--b some text\n\none\n--bxyz\n\ntwo\n--b-- end\nover\n",
    "empty boundary": START + b'""\n\npre\n--\n\none\n--\n\ntwo\n----\nover\n',
    "inner boundary is longer": START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\none\n--bb\n\ntwo\n"
    b"--bb--\n\n--b\n\nthree\n--b--\n",
    "outer boundary is longer": START + b"bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n"
    b"--b--\n\n--bb\n\nthree\n--bb--\n",
    "inner multipart without end": START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n",
    "more behind the end": START + b"b\n\n--b\n\none\n--b--\n--b\n\ntwo\n--b--\n",
    "more behind an inner end": START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n--c\n\ntwo\n"
    b"--b\n\nthree\n--b--\n",
    "boundaries twice": START + b"b\n\n--b\n--b\nContent-Type: text/html\n\none\n--b\n--b--\n",
    "part without empty line": START + b"b\n\n--b\nContent-Type: text/plain\n--b\n\ntwo\n--b--\n",
    "text around inner parts": START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\npre\n--c\n\none\n--c--\nover\n--b--\n",
    "digest": b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nbody\n--b\nContent-Type: text/plain\n\nx\n--b--\n",
    "no line break at the end": START + b"b\n\n--b\n\none\n--b--",
    "charset in many places": b"Content-Type: text/plain (charset=koi8-r); charset=utf-8 (c); x-charset=foo\n\nx\n",
}  # fmt: skip
# where the octets are the same as well; elsewhere Dovecot keeps a line break that belongs to a boundary
PARTS = ((1,), (2,), (1, 1), (1, 2))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """BODYSTRUCTURE and parts of each message, by Dovecot."""
    dovecot.needed()
    root: Path = tmp_path_factory.mktemp("dovecot")
    server = Dovecot(root / "dovecot", root / "mail")
    for name in ("cur", "new", "tmp"):
        (root / "mail" / "user@example.test" / name).mkdir(parents=True)
    server.start()
    out: dict[str, dict[str, bytes]] = {}
    try:
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
        client.login("user@example.test", Dovecot.password)
        client.select("INBOX")
        for message in ODD.values():
            client.append("INBOX", "", "", to_crlf(message))  # type: ignore[arg-type]
        client.noop()
        for number, name in enumerate(ODD, 1):
            out[name] = {"": _answer(client, number, "BODYSTRUCTURE").partition(b"BODYSTRUCTURE ")[2][:-1]}
            for path in PARTS:
                section = ".".join(map(str, path))
                out[name][section] = _answer(client, number, f"BODY.PEEK[{section}]")
        client.logout()
    finally:
        server.stop()
    return out


def _answer(client: imaplib.IMAP4, number: int, item: str) -> bytes:
    """What one item of one message is; a literal without what is around it."""
    _, data = client.fetch(str(number), f"({item})")
    found = data[0]
    if isinstance(found, tuple):
        return found[1] if item.startswith("BODY.PEEK") else b"\r\n".join((found[0], found[1])) + (data[1] or b"")
    assert isinstance(found, bytes)
    return found if item == "BODYSTRUCTURE" else b""


@pytest.mark.parametrize("name", ODD)
def test_odd_messages_have_the_same_parts(name: str, theirs: dict[str, dict[str, bytes]]) -> None:
    message = ODD[name]
    ours = summary.of(message)
    if name != "the parent's, in a message":  # there, the size differs by the line break in front of the boundary
        assert ours.structure == theirs[name][""]
    for path in PARTS:
        found = sections.extract(message, ours, path, b"", ())
        if found is not None:
            wanted = theirs[name][".".join(map(str, path))]
            assert found in (wanted, wanted.removesuffix(b"\r\n"))
