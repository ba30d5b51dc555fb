"""Two servers, a queue between them: commands, crashes, and Postfix as the other side where it is installed."""

import json
import os
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_clients import letter, unverified
from tests.support.hosts import dead_port
from tests.support.server import Server, free_ports


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("far"), workers=1)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def near(tmp_path: Path, far: Server) -> Iterator[Server]:
    """Its own domain is near.test; example.test is the far one's."""
    place = tmp_path / "near"
    extra = f'\n[relay]\nroutes = ["example.test smtp:127.0.0.1:{far.ports["smtp"]}", "dead.test smtp:127.0.0.1:{dead_port()}"]\n'
    server = Server(place, extra)
    server.cli("domain", "add", "near.test")
    server.cli("account", "add", "me@near.test", "--password-stdin", stdin=server.password + "\n")
    server.cli("account", "remove", server.user)
    server.cli("alias", "remove", "postmaster@example.test")
    server.cli("domain", "remove", "example.test")
    server.start()
    yield server
    server.stop()


def send(server: Server, *to: str, subject: str = "hello") -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
        smtp.starttls(context=unverified())
        smtp.login("me@near.test", server.password)
        message = letter(to[0], subject)
        message.replace_header("From", "me@near.test")
        smtp.send_message(message, "me@near.test", list(to))


def subjects(server: Server, address: str = "") -> list[str]:
    root = server.maildir(address)
    found = [p for sub in ("new", "cur") for p in (root / sub).glob("*")]
    return sorted(next(line[9:] for line in p.read_text().splitlines() if line.startswith("Subject: ")) for p in found)


def until(done: object, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def queued(server: Server) -> list[dict[str, object]]:
    return json.loads(server.cli("queue", "list", "--json").stdout)  # type: ignore[no-any-return]


def test_from_one_server_to_another(near: Server, far: Server) -> None:
    send(near, far.user, "me@near.test", subject="both")
    until(lambda: "both" in subjects(far) and subjects(near, "me@near.test") == ["both"])
    assert queued(near) == []


def test_the_life_of_a_message_can_be_read(near: Server, far: Server) -> None:
    send(near, far.user, "nobody@example.test", "me@near.test", subject="traced")
    until(lambda: "Undelivered Mail" in subjects(near, "me@near.test") and "traced" in subjects(near, "me@near.test"))
    time.sleep(1.5)
    events = json.loads(near.cli("trace", far.user, "--json").stdout)
    whats = [event["what"] for event in events]
    assert whats[0] == "accepted" and sorted(whats[1:]) == ["failed", "reported", "sent", "sent", "stored"]
    first = events[0]["fields"]
    assert first["login"] == "me@near.test" and first["protocol"] == "ESMTPSA" and len(first["recipients"]) == 3
    sent = next(event["fields"] for event in events if event["fields"].get("recipient") == far.user)
    assert sent["tls"].startswith("TLS") and sent["reply"].startswith("250 2.0.0")
    by_id = json.loads(near.cli("trace", first["message_id"], "--json").stdout)
    assert by_id == events and json.loads(near.cli("trace", events[0]["id"], "--json").stdout) == events
    assert "accepted" in near.cli("trace", "me@near.test").stdout
    (stored,) = [
        e for e in json.loads(far.cli("trace", far.user, "--most", "1", "--json").stdout) if e["what"] == "accepted"
    ]
    assert stored["fields"]["stored"][0].startswith(f"{far.user} as UID ")
    assert near.cli("trace", "nobody@nowhere.test", check=False).returncode == 1


def test_the_queue_is_shown_and_steered_while_the_server_runs(near: Server, far: Server) -> None:
    send(near, "a@dead.test", subject="one")
    send(near, "b@dead.test", subject="two")
    until(lambda: any(row["last"] for row in queued(near)))
    rows = queued(near)
    assert {row["destination"] for row in rows} == {rows[0]["destination"]} and len(rows) == 2
    shown = near.cli("queue", "show", str(rows[0]["id"]), "--content").stdout
    assert "Subject: one" in shown
    assert "held 1" in near.cli("queue", "hold", "--recipient", "b@*").stdout
    assert [row["held"] for row in queued(near)] == [False, True]
    assert "a@dead.test" in near.cli("queue", "list", "--recipient", "a@*").stdout
    (total,) = json.loads(near.cli("queue", "summary", "--json").stdout)
    assert (total["messages"], total["recipients"]) == (2, 2)
    assert near.cli("queue", "drop", check=False).returncode == 2
    assert near.cli("queue", "drop", "NOSUCH", check=False).returncode != 0
    near.cli("queue", "move", f"smtp:127.0.0.1:{far.ports['smtp']}", "--sender", "me@near.test", "--recipient", "b@*")
    until(lambda: subjects(near, "me@near.test") == ["Undelivered Mail"])  # the far server has no such user
    assert "bounced 1" in near.cli("queue", "bounce", str(rows[0]["id"])).stdout
    until(lambda: subjects(near, "me@near.test") == ["Undelivered Mail"] * 2)
    assert queued(near) == []


def test_a_kill_loses_nothing_that_was_queued(near: Server, far: Server) -> None:
    """R5: the server is killed while it takes mail and sends it; nothing acknowledged is lost."""
    told = []
    before = set(subjects(far))
    for round_ in range(4):
        for n in range(15):
            subject = f"kill {round_}.{n}"
            send(near, far.user, subject=subject)
            told.append(subject)
        near.kill()
        near.start()
    until(lambda: set(told) <= set(subjects(far)) and queued(near) == [], 40.0)
    arrived = [one for one in subjects(far) if one not in before]
    assert set(arrived) == set(told)
    # an attempt whose answer was not written down yet may be repeated: one for each kill and connection at most
    assert len(arrived) - len(told) <= 4 * 20


@pytest.fixture
def postfix(tmp_path: Path, far: Server) -> Iterator[int]:
    """A private Postfix that takes mail for example.test, and hands it to the far server: its port."""
    if shutil.which("postfix", path=os.environ.get("PATH", "") + ":/usr/sbin") is None or os.geteuid() != 0:
        pytest.skip("Postfix (Debian package postfix) is not installed here, or this is not root")
    (port,) = free_ports(1)
    base = tmp_path / "pf"
    for name in ("etc", "spool", "data"):
        (base / name).mkdir(parents=True)
    shutil.chown(base / "data", "postfix")
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/") and parent.stat().st_uid == os.geteuid():
            os.chmod(parent, parent.stat().st_mode | 0o011)
    (base / "etc" / "main.cf").write_text(
        f"compatibility_level = 3.6\nmyhostname = pf.test\nmydestination =\ninet_interfaces = 127.0.0.1\n"
        f"queue_directory = {base}/spool\ndata_directory = {base}/data\nmail_owner = postfix\nsetgid_group = postdrop\n"
        f"command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmynetworks = 127.0.0.0/8\n"
        f"relayhost =\ntransport_maps = inline:{{ example.test=smtp:[127.0.0.1]:{far.ports['smtp']} }}\n"
        f"relay_domains = example.test\nsmtputf8_enable = no\nmaillog_file = {base}/log\n"
        f"maillog_file_prefixes = {base}\nsmtp_tls_security_level = may\n"
    )
    master = Path("/etc/postfix/master.cf")
    source = master if master.exists() else Path("/usr/share/postfix/master.cf.dist")
    lines = [line for line in source.read_text().splitlines() if not line.startswith("smtp      inet")]
    (base / "etc" / "master.cf").write_text(
        f"127.0.0.1:{port} inet n - n - - smtpd\n" + "\n".join(lines).replace(" y ", " n ") + "\n"
    )
    command = ["/usr/sbin/postfix", "-c", str(base / "etc")]
    done = subprocess.run([*command, "start"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this Postfix does not start privately: {done.stderr[-200:]}")
    yield port
    subprocess.run([*command, "stop"], capture_output=True)


def test_by_way_of_postfix(tmp_path: Path, near: Server, far: Server, postfix: int) -> None:
    text = near.config.read_text()
    near.config.write_text(text.replace(f"smtp:127.0.0.1:{far.ports['smtp']}", f"smtp:127.0.0.1:{postfix}"))
    near.stop()
    near.start()
    for n in range(5):
        send(near, far.user, subject=f"postfix {n}")
    until(lambda: {f"postfix {n}" for n in range(5)} <= set(subjects(far)), 30.0)
    assert queued(near) == []
