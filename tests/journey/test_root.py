"""A server that root starts, as README's "A real domain" has it: a user of its own, a program and a key that only root
can read, files that belong to the user, whoever made them."""

import imaplib
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmail.app import quickstart
from tests.support.authorities import Authority
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
PORTS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
USER = "nobody"
pytestmark = pytest.mark.root


class Place:
    """The program in a directory of mode 0700, and a server's directory that others may enter."""

    def __init__(self, base: Path) -> None:
        base.chmod(0o755)
        self.closed = base / "closed"
        self.closed.mkdir(0o700)
        # compiled modules too, or each command would compile all that it imports; never half-written ones
        unwanted = shutil.ignore_patterns("*.pyx", "*.pyc.*")
        shutil.copytree(ROOT / "fastmail", self.closed / "fastmail", ignore=unwanted)
        self.home = base / "srv"
        self.config = self.home / "fastmail.toml"
        self.log = base / "log"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, stdin: str = "secret\n", code: int = 0) -> str:
        done = subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=100, env=self.env, cwd="/"
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.closed), "PYTHONDONTWRITEBYTECODE": "1"}

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-P", "-c", "from fastmail.cli.main import main; main()", *words]

    def quickstart(self, user: str = USER) -> None:
        words = ("--hostname", "mx.example.test", "--standard-ports", "--password-stdin")
        self.run("quickstart", str(self.home), "me@example.test", *words)
        text = self.config.read_text()
        for name, port in self.ports.items():
            text = re.sub(rf"(?m)^{name} = .*", f'{name} = ["127.0.0.1:{port}"]', text)
        if user:
            text = text.replace("[server]", f'[server]\nuser = "{user}"\nworkers = 2')
        self.config.write_text(text)

    def start(self) -> None:
        with open(self.log, "ab") as log:
            begun = log.tell()
            command = self.command("serve", "-c", str(self.config))
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env, cwd="/")
        self.until(lambda: b"event=ready" in self.log.read_bytes()[begun:])

    def until(self, done, seconds: float = 40.0) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end and self.process is not None, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def imap(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=30)
        client.login("me@example.test", "secret")
        return client

    def certificate(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.ports["imaps"]), 20) as plain:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as secure:
                return secure.getpeercert(True) or b""

    def owners(self) -> set[str]:
        found = [Path(top) / name for top, dirs, files in os.walk(self.home / "data") for name in [*dirs, *files]]
        return {pwd.getpwuid(path.lstat().st_uid).pw_name for path in [self.home / "data", *found]}


@pytest.fixture
def place() -> Iterator[Place]:
    base = Path(tempfile.mkdtemp(prefix="fastmail-root-"))
    made = Place(base)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(base, ignore_errors=True)


CHARSETS = ("iso-8859-2", "koi8-r", "windows-1251", "shift_jis", "gb18030", "euc-kr", "utf-7", "mac-roman", "hz")


def test_as_readme_says(place: Place) -> None:
    place.quickstart()
    assert "is right" in place.run("check-config", "-c", str(place.config))
    place.start()
    status = place.process and Path(f"/proc/{place.process.pid}/status").read_text()
    assert re.search(rf"(?m)^Uid:\s+{pwd.getpwnam(USER).pw_uid}\s", status or "")
    assert place.owners() == {USER}
    # mail in charsets whose codecs nothing has asked for yet
    with smtplib.SMTP("127.0.0.1", place.ports["smtp"], timeout=30) as client:
        for charset in CHARSETS:
            head = f"Subject: =?{charset}?b?xPbc?= {charset}\r\nContent-Type: text/plain; charset={charset}\r\n"
            client.sendmail("you@example.org", ["me@example.test"], head.encode() + b"\r\n\xc4\xf6\xdc words\r\n")
    client = place.imap()
    assert client.select()[1] == [str(len(CHARSETS)).encode()]
    assert len(client.search(None, "BODY", "words")[1][0].split()) == len(CHARSETS)
    for charset in CHARSETS:
        assert client.search(None, "SUBJECT", charset)[0] == "OK"
    assert client.uid("SORT", "(SUBJECT)", "UTF-8", "ALL")[0] == "OK"
    client.logout()
    # commands of root's, beside the server: what they make is the server's
    place.run("account", "add", "you@example.test", "--password-stdin", "-c", str(place.config))
    place.run("deliver", "you@example.test", "-c", str(place.config), stdin="Subject: x\n\ny\n")
    place.run("check", "-c", str(place.config))
    assert place.owners() == {USER}
    place.stop()
    assert place.process is not None and place.process.returncode == 0
    place.run("account", "add", "third@example.test", "--password-stdin", "-c", str(place.config))
    place.start()
    assert place.imap().select()[1] == [str(len(CHARSETS)).encode()]
    said = place.log.read_text()
    assert "Traceback" not in said and "worker.died" not in said and "Error" not in said, said


def test_a_key_that_only_root_can_read_is_read_again(place: Place) -> None:
    place.quickstart()
    place.start()
    assert place.process is not None
    before = place.certificate()
    assert (place.home / "key.pem").stat().st_mode & 0o777 == 0o600 and (place.home / "key.pem").stat().st_uid == 0
    quickstart.write_certificate(str(place.home), "mx.example.test")
    after = ssl.PEM_cert_to_DER_cert((place.home / "cert.pem").read_text())
    assert after != before
    count = place.log.read_text().count("tls.reloaded")
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("tls.reloaded") >= count + 2)
    assert {place.certificate() for _ in range(8)} == {after}
    # a worker that is started later has it too
    workers = subprocess.run(["pgrep", "-u", USER, "-P", str(place.process.pid)], capture_output=True, text=True)
    for pid in workers.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    place.until(lambda: place.log.read_text().count("event=worker.ready") >= 4)
    assert {place.certificate() for _ in range(8)} == {after}
    # files that do not fit: the old ones stay in use
    (place.home / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("event=tls.reload ") >= 3)
    assert {place.certificate() for _ in range(4)} == {after}
    assert not list((place.home / "data" / "staging").iterdir())
    # nobody stays behind, root least of all; the keeper is started again after the workers
    place.until(lambda: place.log.read_text().count("event=keeper.ready") >= 2)
    children = subprocess.run(["pgrep", "-P", str(place.process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 4  # one more than before there was a keeper
    place.stop()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_secrets_of_root_are_read_before_root_is_dropped(place: Place) -> None:
    place.quickstart()
    secret = place.home / "secret"
    secret.write_text("very secret\n")
    secret.chmod(0o600)
    with open(place.config, "a") as file:
        file.write('[relay]\nroutes = ["far.test smtp:127.0.0.1:1 login=me password_file=secret"]\n')
    place.start()
    assert place.imap().select()[0] == "OK"


def test_links_of_the_user_give_nothing_away(place: Place) -> None:
    place.quickstart()
    data = place.home / "data"
    target = place.home / "of-root"
    target.write_text("x")
    (data / "link").symlink_to(target)
    os.link(target, data / "name")
    place.start()
    assert target.stat().st_uid == 0 and (data / "link").lstat().st_uid == pwd.getpwnam(USER).pw_uid
    assert "owner.kept" in place.log.read_text()


def test_a_data_directory_that_is_open(place: Place) -> None:
    place.quickstart()
    data = place.home / "data"
    data.chmod(0o755)
    assert "is open to everybody" in place.run("check-config", "-c", str(place.config))
    data.chmod(0o777)
    assert "can be changed by everybody" in place.run("check-config", "-c", str(place.config), code=78)
    assert "chmod 700" in place.run("serve", "-c", str(place.config), code=78)


def test_a_closed_directory_above_is_told(place: Place) -> None:
    place.quickstart()
    place.home.chmod(0o700)
    said = place.run("serve", "-c", str(place.config), code=78)
    assert f"{USER} cannot read and write in {place.home / 'data'}" in said and "Traceback" not in said


def test_s27_what_clients_are_checked_by_is_read_again_by_root(place: Place, tmp_path: Path) -> None:
    place.quickstart()
    authority = Authority(tmp_path, "known")
    context, given = authority.context("me@example.test"), authority.given
    ca, crl = place.home / "clients.pem", place.home / "revoked.pem"
    for path, content in ((ca, authority.file.read_bytes()), (crl, authority.revoked())):
        path.write_bytes(content)
        path.chmod(0o600)
    text = place.config.read_text()
    place.config.write_text(text.replace("[tls]", f'[tls]\nclient_ca = "{ca}"\nclient_crl = "{crl}"'))
    place.start()
    assert place.process is not None

    def greeted() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", place.ports["imaps"]), 10) as plain:
                return context.wrap_socket(plain).recv(4) == b"* OK"
        except OSError:
            return False

    assert {greeted() for _ in range(6)} == {True}
    crl.write_bytes(authority.revoked(given))
    count = place.log.read_text().count("tls.reloaded")
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("tls.reloaded") >= count + 2)
    assert {greeted() for _ in range(6)} == {False}
    assert not list((place.home / "data" / "staging").iterdir())
    place.stop()


def as_user(work: Callable[[], None]) -> None:
    """Do what a worker that was taken over can do."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            who = pwd.getpwnam(USER)
            os.setgroups([])
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def replace_by_link(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(path.name + ".before"))
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def state(path: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """What there is of root's, and how it is."""
    out = {}
    for one in [path, *sorted(path.rglob("*"))]:
        found = one.lstat()
        content = one.read_bytes() if one.is_file() else b""
        out[str(one)] = found.st_mode, found.st_uid, found.st_gid, found.st_nlink, content
    return out


def of_root(place: Place) -> Path:
    """A directory and files of root's that links lead to."""
    treasure = place.home / "of-root"
    for sub in ("full", "empty"):
        (treasure / sub).mkdir(parents=True)
    (treasure / "full" / "file").write_text("keep me")
    (treasure / "full" / "1.2").write_text("keep me too")
    (treasure / "pid").write_text("and me")
    (treasure / "pid").chmod(0o600)
    return treasure


PLANTED = [
    {"run/pid": "pid", "run/instance": "made", "run/doorbell.0": "pid", "staging": "full"},
    {"run/lock": "made"},
    {"run": "empty"},
    {"mail": "full", "trace": "empty", "queue": "full"},
]
OFTEN = [
    {"run/doorbell.0": "pid", "run/instance": "pid", "staging": "full", "mail": "full", "trace": "empty"},
    {"directory/data.mdb": "data.mdb"},
    {"index-0": "full"},
]


def plant(place: Place, links: dict[str, str], treasure: Path) -> None:
    def work() -> None:
        for name, target in links.items():
            replace_by_link(place.home / "data" / name, treasure / target)

    as_user(work)


@pytest.mark.parametrize("links", PLANTED, ids=lambda links: "+".join(links).replace("/", "."))
def test_root_follows_no_link_of_the_user_at_a_start(place: Place, links: dict[str, str]) -> None:
    """Whatever a link of the server's user leads to stays as it was: made, emptied, written or given away by nobody."""
    place.quickstart()
    place.start()
    place.stop()
    treasure = of_root(place)
    plant(place, links, treasure)
    before = state(treasure)
    with open(place.log, "ab") as log:
        begun = log.tell()
        command = place.command("serve", "-c", str(place.config))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=place.env)
    until = time.monotonic() + 60
    while b"event=ready" not in place.log.read_bytes()[begun:] and process.poll() is None:  # or it says that it cannot
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    process.terminate()
    process.wait(30)
    assert state(treasure) == before, place.log.read_text()


@pytest.mark.parametrize("links", OFTEN, ids=lambda links: "+".join(links).replace("/", "."))
def test_commands_of_root_follow_no_link_of_the_user(place: Place, links: dict[str, str]) -> None:
    place.quickstart()
    place.start()
    place.stop()
    treasure = of_root(place)
    (treasure / "data.mdb").write_text("x" * 9000)
    plant(place, links, treasure)
    before = state(treasure)
    for words in (
        ("deliver", "me@example.test"),
        ("check", "--repair"),
        ("account", "add", "you@example.test", "--password-stdin"),
        ("account", "remove", "you@example.test", "--delete-mail"),
        ("upgrade",),
    ):
        command = place.command(*words, "-c", str(place.config))
        done = subprocess.run(command, input="secret\n", capture_output=True, text=True, timeout=60, env=place.env)
        assert state(treasure) == before, (words, done.stdout, done.stderr)


def test_unix_sockets_in_the_users_directory(place: Place) -> None:
    """Their mode and owner are set at birth: there is no change by a name that may be a link by then."""
    place.quickstart()
    treasure, run = of_root(place), place.home / "data" / "run"
    inner, outer = run / "lmtp", place.home / "lmtp"
    places = f'["unix:{inner}", "unix:{outer}"]'
    place.config.write_text(re.sub(r"(?m)^lmtp = .*", f"lmtp = {places}", place.config.read_text()))
    place.start()
    uid = pwd.getpwnam(USER).pw_uid
    for one in (inner, outer):
        found = one.lstat()
        assert (found.st_uid, found.st_mode & 0o777, stat.S_ISSOCK(found.st_mode)) == (uid, 0o660, True)
    place.stop()
    as_user(lambda: replace_by_link(inner, treasure / "pid"))
    before = state(treasure)
    assert "cannot listen on" in place.run("serve", "-c", str(place.config), code=78)
    assert state(treasure) == before
    as_user(lambda: replace_by_link(inner, treasure / "made"))
    place.run("serve", "-c", str(place.config), code=78)
    assert state(treasure) == before


def test_the_key_is_no_way_to_other_files_of_root(place: Place) -> None:
    """What root reads as the key, the workers see. Where their user can put a file, it has to be that user's."""
    place.quickstart()
    secret = place.home / "secret.pem"
    shutil.copy(place.home / "key.pem", secret)  # of root's, and sound
    secret.chmod(0o600)
    keys = place.home / "data" / "keys"
    keys.mkdir()
    shutil.copy(place.home / "key.pem", keys / "key.pem")
    text = place.config.read_text().replace('key = "key.pem"', 'key = "data/keys/key.pem"')
    place.config.write_text(text)
    place.start()
    assert place.process is not None
    before = place.log.read_text().count("tls.reloaded")
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("tls.reloaded") > before)

    def hard_link() -> None:
        """What a kernel without fs.protected_hardlinks lets the user do, so root does it here."""
        (keys / "key.pem").unlink()
        os.link(secret, keys / "key.pem")

    for plant in (
        lambda: as_user(lambda: replace_by_link(keys / "key.pem", secret)),
        lambda: as_user(lambda: [(keys / "key.pem").unlink(), os.mkfifo(keys / "key.pem")]),  # type: ignore[arg-type, return-value]
        hard_link,
    ):
        plant()
        count = place.log.read_text().count("event=tls.reload ")
        place.process.send_signal(signal.SIGHUP)
        place.until(lambda count=count: place.log.read_text().count("event=tls.reload ") > count)
    # links of root's, as certbot makes them, are followed
    place.stop()
    live = place.home / "live"
    live.mkdir(0o700)
    (live / "key.pem").symlink_to("../secret.pem")
    place.config.write_text(text.replace("data/keys/key.pem", "live/key.pem"))
    place.start()
    before = place.log.read_text().count("tls.reloaded")
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("tls.reloaded") > before)


def test_a_directory_is_made_where_root_alone_has_a_say(place: Place) -> None:
    """[server] data_dir below a directory of the user: a link there makes no directory elsewhere."""
    place.quickstart()
    treasure = of_root(place)
    home = place.home / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam(USER).pw_uid, -1)
    as_user(lambda: (home / "link").symlink_to(treasure))
    text = place.config.read_text()
    before = state(treasure)
    place.config.write_text(text.replace('data_dir = "data"', 'data_dir = "home/link/data"'))
    assert "cannot" in place.run("serve", "-c", str(place.config), code=78)
    assert state(treasure) == before
    place.config.write_text(text.replace('data_dir = "data"', 'data_dir = "home/a/b"'))
    place.start()
    assert (home / "a" / "b").stat().st_uid == pwd.getpwnam(USER).pw_uid
    place.stop()
    place.config.write_text(text.replace('data_dir = "data"', 'data_dir = "deep/er/data"'))
    place.start()
    assert (place.home / "deep" / "er" / "data").stat().st_uid == pwd.getpwnam(USER).pw_uid


def test_quickstart_in_somebodys_directory(place: Place) -> None:
    """Root's `quickstart` there writes as its owner: links of the owner's lead to nothing that only root may write."""
    place.home.mkdir()
    treasure = of_root(place)
    own = place.home / "own"
    own.mkdir()
    who = pwd.getpwnam(USER)
    os.chown(own, who.pw_uid, who.pw_gid)
    for name in ("key.pem", "cert.pem", "fastmail.toml", "welcome"):
        as_user(lambda name=name: (own / name).symlink_to(treasure / ("made" if name == "fastmail.toml" else "pid")))
    before = state(treasure)
    place.run("quickstart", str(own), "me@example.test", "--generate")
    assert state(treasure) == before
    assert {path.lstat().st_uid for path in [own, *own.rglob("*")]} == {who.pw_uid}
    assert not (own / "key.pem").is_symlink() and (own / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_backup_of_roots_is_written_where_root_says(place: Place) -> None:
    place.quickstart()
    place.start()
    who = pwd.getpwnam(USER)
    vault = place.closed / "vault"  # below a directory that only root may enter
    place.run("backup", str(vault), "-c", str(place.config))
    place.run("backup", str(vault), "-c", str(place.config))
    assert {one.lstat().st_uid for one in [vault, *vault.rglob("*")]} == {who.pw_uid}
    full = place.home / "full"
    full.mkdir()
    (full / "file").write_text("x")
    for words in (("backup", str(full)), ("export", "maildir", "me@example.test", str(full))):
        said = place.run(*words, "-c", str(place.config), code=78)
        assert f"chown -R {USER}" in said and os.listdir(full) == ["file"] and full.stat().st_uid == 0
    place.run("export", "maildir", "me@example.test", str(place.home / "box"), "-c", str(place.config))
    place.run("export", "mbox", "me@example.test", str(place.home / "boxes"), "-c", str(place.config))
    assert (place.home / "box" / "cur").stat().st_uid == who.pw_uid


def test_the_web_process_is_not_root_and_has_the_new_certificate(place: Place) -> None:
    place.quickstart()
    (port,) = free_ports(1)
    place.ports["imaps"], imaps = port, place.ports["imaps"]  # whose certificate is looked at
    with open(place.config, "a") as file:
        file.write(
            f'[web]\nlisten = ["127.0.0.1:{port}", "unix:{place.home}/data/web"]\nurl = "https://localhost:{port}"\n'
        )
    place.start()
    place.until(lambda: "event=web.ready" in place.log.read_text())
    (pid,) = re.findall(r"event=web.ready pid=(\d+)", place.log.read_text())
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"(?m)^Uid:\s+{pwd.getpwnam(USER).pw_uid}\s+{pwd.getpwnam(USER).pw_uid}\s", status)
    assert place.owners() == {USER}, "its socket too"
    said = place.log.read_text()
    assert "event=web.confined" in said or "Landlock" in said
    before = place.certificate()
    quickstart.write_certificate(str(place.home), "mx.example.test")
    count = place.log.read_text().count("tls.reloaded")
    assert place.process is not None
    place.process.send_signal(signal.SIGHUP)
    place.until(lambda: place.log.read_text().count("tls.reloaded") >= count + 3)
    after = place.certificate()
    assert after == ssl.PEM_cert_to_DER_cert((place.home / "cert.pem").read_text()) != before
    os.kill(int(pid), signal.SIGKILL)
    place.until(lambda: place.log.read_text().count("event=web.ready") == 2)
    assert place.certificate() == after, "as one that is started later has"
    context = ssl.create_default_context(cafile=str(place.home / "cert.pem"))
    with (
        socket.create_connection(("127.0.0.1", port), 20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as web,
    ):
        web.sendall(b"GET /u/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: web.recv(65536), b""))
    assert got.startswith(b"HTTP/1.1 404 ") and b"This link leads nowhere" in got
    place.ports["imaps"] = imaps
    assert not list((place.home / "data" / "staging").iterdir())
    said = place.log.read_text()
    assert "Traceback" not in said and "worker.died" not in said, said
