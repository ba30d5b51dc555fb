"""Makes a small data directory with a version of this program from the history, for tests/journey/test_layouts.py.

    git worktree add /tmp/old COMMIT && (cd /tmp/old && python setup.py build_ext --inplace)
    python tests/data/layouts/make.py /tmp/old tests/data/layouts/NAME.tar.xz

Beside the server's files the archive has ``expected.json``: what the old server itself showed of them.
"""

import hashlib
import imaplib
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "me@example.test", "secret"
BOXES = ("INBOX", "Archive", "Lists/python")


def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def run(old: Path, *words: str, stdin: str = "") -> str:
    done = subprocess.run(command(old, *words), input=stdin, capture_output=True, text=True, env=env(old), cwd="/")
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def command(old: Path, *words: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from fastmail.cli.main import main; main()", *words]


def env(old: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(old)}


def seen(client: imaplib.IMAP4) -> dict[str, object]:
    """What a client sees: the same function reads the old server and the new one."""
    out: dict[str, object] = {"subscribed": sorted(repr(one) for one in client.lsub()[1])}
    for box in BOXES:
        client.select(f'"{box}"', readonly=True)
        validity, following = (client.response(name)[1][0] for name in ("UIDVALIDITY", "UIDNEXT"))
        rows = {}
        for item in client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")[1]:
            text = item if isinstance(item, bytes) else b"".join(item)
            uid = int(re.search(rb"UID (\d+)", text)[1])  # type: ignore[index]
            flags = sorted(re.search(rb"FLAGS \(([^)]*)\)", text)[1].split())  # type: ignore[index]
            rest = re.sub(rb"^\d+ |FLAGS \([^)]*\) ?|UID \d+ ?", b"", text)
            rows[uid] = [b" ".join(flags).decode().replace("\\Recent", "").strip(), rest.decode("latin-1").strip()]
        for item in client.uid("FETCH", "1:*", "BODY.PEEK[]")[1]:
            if isinstance(item, tuple):
                uid = int(re.search(rb"UID (\d+)", item[0])[1])  # type: ignore[index]
                rows[uid].append(hashlib.sha256(item[1]).hexdigest())
        out[box] = {
            "validity": validity.decode(),
            "next": following.decode(),
            "rows": {str(k): rows[k] for k in sorted(rows)},
        }
    return out


def main(old: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "s"
        run(
            old,
            "quickstart",
            str(home),
            USER,
            "--hostname",
            "mx.example.test",
            "--password-stdin",
            stdin=PASSWORD + "\n",
        )
        config = home / "fastmail.toml"
        ports = {
            name: port() for name in ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
        }
        text = config.read_text()
        for name, number in ports.items():
            text = re.sub(rf"(?m)^{name} = .*", f'{name} = ["127.0.0.1:{number}"]', text)
        text = text.replace("[server]", "[server]\nworkers = 1")
        queue = (old / "fastmail" / "queue").is_dir()
        text += '[relay]\ndns_servers = ["127.0.0.1:9"]\n' if queue else ""
        config.write_text(text)
        with open(home / "log", "wb") as log:
            server = subprocess.Popen(
                command(old, "serve", "-c", str(config)), stdout=log, stderr=log, env=env(old), cwd="/"
            )
        for _ in range(400):
            try:
                client = imaplib.IMAP4("127.0.0.1", ports["imap"])
                break
            except OSError:
                time.sleep(0.1)
        client.login(USER, PASSWORD)
        for box in BOXES[1:]:
            client.create(f'"{box}"')
            client.subscribe(f'"{box}"')
        import smtplib

        with smtplib.SMTP("127.0.0.1", ports["lmtp"]) as mail:  # pages of 32 and of 64 UIDs, full and not
            mail.ehlo_or_helo_if_needed = lambda: None  # type: ignore[method-assign]
            mail.docmd("LHLO client.test")
            for number in range(150):
                mail.docmd("MAIL FROM:<you@example.org>")
                mail.docmd(f"RCPT TO:<{USER}>")
                mail.docmd("DATA")
                body = f"From: you@example.org\r\nTo: {USER}\r\nSubject: number {number}\r\nMessage-ID: <{number}@x>\r\n\r\nText {number}\r\n.\r\n"
                mail.send(body.encode())
                mail.getreply()
        time.sleep(2)
        client.select()
        client.store("1:40", "+FLAGS", "(\\Seen)")
        client.store("10:20", "+FLAGS", "(\\Flagged $Work later)")
        client.copy("5:100", "Archive")
        client.copy("1:3", '"Lists/python"')
        client.store("60:70,140", "+FLAGS", "(\\Deleted)")
        client.expunge()
        client.select("Archive")
        client.store("1:96", "+FLAGS", "(\\Answered)")
        client.store("1:32", "+FLAGS", "(\\Deleted)")
        client.expunge()
        time.sleep(2)
        client.logout()
        if queue:
            with smtplib.SMTP("127.0.0.1", ports["submission"]) as mail:
                mail.ehlo()
                mail.login(USER, PASSWORD)
                for number in range(3):
                    mail.sendmail(
                        USER, [f"a{number}@far.invalid", "b@other.invalid"], f"Subject: out {number}\r\n\r\nx\r\n"
                    )
            time.sleep(1)
            run(old, "queue", "hold", "--recipient", "a1@far.invalid", "-c", str(config))
        server.terminate()
        server.wait()
        with open(home / "log", "ab") as log:  # once more: what it shows after a restart
            server = subprocess.Popen(
                command(old, "serve", "-c", str(config)), stdout=log, stderr=log, env=env(old), cwd="/"
            )
        for _ in range(400):
            try:
                client = imaplib.IMAP4("127.0.0.1", ports["imap"])
                break
            except OSError:
                time.sleep(0.1)
        client.login(USER, PASSWORD)
        expected = seen(client)
        client.logout()
        server.terminate()
        server.wait()
        if queue:
            jobs = json.loads(run(old, "queue", "list", "--json", "-c", str(config)))
            expected["queue"] = sorted(
                [j["id"], j["sender"], str(j.get("destination")), str(j.get("recipients"))] for j in jobs
            )
        (home / "expected.json").write_text(json.dumps(expected))
        os.unlink(home / "log")
        for lock in home.rglob("lock.mdb"):
            lock.unlink()
        with tarfile.open(target, "w:xz", preset=9) as archive:
            archive.add(home, "s", filter=lambda info: info if info.isfile() or info.isdir() else None)
    print(target, target.stat().st_size, {k: len(v["rows"]) if isinstance(v, dict) else v for k, v in expected.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
