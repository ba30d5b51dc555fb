"""A worker ends between the commit of a delivery and what follows it; the queue delivers again, with the same id.

The settling of the queue is held up from outside: this process holds the lock of the queue's index, so that the mailbox
has the message and the queue does not know it yet. Then the workers are killed.
"""

import imaplib
import os
import signal
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from fastmail.bench.load import unverified
from tests.support.hosts import dead_port
from tests.support.server import Server

OTHER = "other@example.test"


def until(done: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def stuck(server: Server) -> Iterator[None]:
    """Nobody can commit to the queue."""
    env = lmdb.open(str(server.directory / "data/queue/index"), max_dbs=16, map_size=1 << 30)
    try:
        with env.begin(write=True):
            yield
    finally:
        env.close()


def send(server: Server, *to: str) -> None:
    """Two seconds from now it is due."""
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
        smtp.starttls(context=unverified())
        smtp.login(server.user, server.password)
        body = f"From: {server.user}\r\nSubject: once\r\n\r\nbody\r\n"
        smtp.sendmail(server.user, list(to), body, mail_options=["HOLDFOR=2"])


@contextmanager
def inbox(server: Server, user: str) -> Iterator[imaplib.IMAP4]:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], 20) as imap:
        imap.login(user, server.password)
        imap.select("INBOX")
        yield imap


def copies(server: Server, user: str, mailbox: str = "INBOX") -> int:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], 20) as imap:
        imap.login(user, server.password)
        imap.select(mailbox)
        return len(imap.search(None, "SUBJECT", "once")[1][0].split())


def depth(server: Server) -> int:
    return server.cli("queue", "list", "--json").stdout.count('"destination": "local"')


@contextmanager
def running(tmp_path: Path, content: str = "maildir", shards: int = 1) -> Iterator[Server]:
    extra = f'\n[relay]\nroutes = ["dead.test smtp:127.0.0.1:{dead_port()}"]\n'
    one = Server(tmp_path, extra, workers=2, content=content)
    text = one.config.read_text()
    assert text.count("[store]\n") == 1
    one.config.write_text(text.replace("[store]\n", f"[store]\nshards = {shards}\n"))
    one.cli("account", "add", OTHER, "--password-stdin", stdin=one.password + "\n")
    one.start()
    try:
        yield one
    finally:
        one.stop()


@pytest.mark.parametrize(
    "content,shards,meanwhile,how",
    [
        ("maildir", 1, "nothing", "workers"),
        ("maildir", 1, "moved", "workers"),
        ("maildir", 3, "removed", "workers"),
        ("maildir", 3, "nothing", "server"),
        ("segments", 1, "removed", "workers"),
        ("segments", 3, "moved", "server"),
    ],
)
def test_a_delivery_that_was_not_settled_is_not_repeated(
    tmp_path: Path, content: str, shards: int, meanwhile: str, how: str
) -> None:
    with running(tmp_path, content, shards) as server:
        _not_repeated(server, meanwhile, how)


def delivered_but_not_settled(server: Server, then: Callable[[], None]) -> None:
    """Do something at that moment. Where the queue was held up before it delivered (it writes down more than what came
    of its attempts), try again."""
    for _ in range(4):
        send(server, server.user, OTHER, "you@dead.test")
        with stuck(server):
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline and (copies(server, server.user), copies(server, OTHER)) != (1, 1):
                time.sleep(0.1)
            if time.monotonic() < deadline:
                then()
                return
        until(lambda: depth(server) == 0)
        for user in (server.user, OTHER):
            with inbox(server, user) as imap:
                imap.uid("STORE", "1:*", "+FLAGS", "\\Deleted")
                imap.expunge()
    raise AssertionError("the moment was never met")


def _not_repeated(server: Server, meanwhile: str, how: str) -> None:
    def middle() -> None:
        if meanwhile != "nothing":
            with inbox(server, server.user) as imap:
                if meanwhile == "moved":
                    imap.uid("MOVE", "1:*", "Archive")
                else:
                    imap.uid("STORE", "1:*", "+FLAGS", "\\Deleted")
                    imap.expunge()
        time.sleep(0.3)
        if how == "workers":
            old = server.workers()
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            until(lambda: len(server.workers()) == len(old) and not set(old) & set(server.workers()))
        else:
            server.kill()

    delivered_but_not_settled(server, middle)
    if server.process is None:
        server.start()
    until(lambda: depth(server) == 0)
    assert copies(server, OTHER) == 1
    assert copies(server, server.user) == (1 if meanwhile == "nothing" else 0)
    assert copies(server, server.user, "Archive") == (1 if meanwhile == "moved" else 0)
    assert server.log.read_bytes().count(b"event=bug") == 0
    server.stop()
    server.cli("check")


def test_a_server_that_is_stopped_in_the_middle_repeats_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:

        def middle() -> None:
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1.0)

        delivered_but_not_settled(server, middle)
        server.stop()
        server.start()
        until(lambda: depth(server) == 0)
        assert copies(server, server.user) == copies(server, OTHER) == 1
