"""Delivers to programs: one run for each recipient, with the message (LF) on standard input, without a shell.

The exit status gives the result, as in sysexits.h: 0 delivered, 75 (and 69, 71, 74) try again later, 67 no such user,
any other a permanent refusal. A program that is killed, is missing or takes too long is tried again. Output that begins
with an enhanced status code such as ``5.7.1`` overrides the exit status; its first line is the reply that the sender
and the history see.

Promise: addresses become arguments unchanged, one word each; an address that a program could take for an option is
refused. The program sees PATH, SENDER, RECIPIENT and MESSAGE_ID in its environment and nothing else of the server's. A
server that runs as root runs it as nobody.
"""

import asyncio
import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE, STDOUT
from typing import Any

from fastmail.message import trace
from fastmail.queue.routes import Hop
from fastmail.smtp.client import Reply

TEMPORARY = (69, 71, 74, 75)
STATUS = {65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 73: "5.2.0", 76: "5.5.0", 77: "5.7.0", 78: "5.3.5"}
OUTPUT = 4096  # octets of a program's output that are read
NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AT_ONCE = 20  # programs
_threads = ThreadPoolExecutor(AT_ONCE, "pipe")
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")


def arguments(hop: Hop, sender: str, recipient: str, number: str) -> list[str]:
    """Return the command for a recipient; ValueError when an address could be taken for an option."""
    user, _, domain = recipient.rpartition("@")
    values = {"sender": sender, "recipient": recipient, "user": user, "domain": domain, "id": number}
    out = []
    for word in hop.command:
        filled = word.format(**values)
        if filled.startswith("-") and not word.startswith("-"):
            raise ValueError("an address may not begin with a hyphen here")
        out.append(filled)
    return out


async def run(hop: Hop, sender: str, recipient: str, number: str, content: bytes, seconds: float) -> Reply:
    """Give a message to a program; returns the reply that stands for its result."""
    try:
        command = arguments(hop, sender, recipient, number)
    except ValueError as error:
        return Reply(550, "5.1.3", str(error))
    env = {"PATH": PATH, "SENDER": sender, "RECIPIENT": recipient, "MESSAGE_ID": number}
    message = trace.return_path(sender) + trace.delivered_to(recipient) + content
    return await asyncio.get_running_loop().run_in_executor(_threads, _wait_for, command, env, message, seconds)


def _wait_for(command: list[str], env: dict[str, str], message: bytes, seconds: float) -> Reply:
    """Run a program until it ends or its time is over; on a helper thread."""
    name = os.path.basename(command[0])
    deadline = time.monotonic() + seconds
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryFile() as file:
        try:
            file.write(message)
            file.seek(0)
            process = subprocess.Popen(
                command, stdin=file, stdout=PIPE, stderr=STDOUT, env=env, cwd="/", start_new_session=True, **other
            )
        except (OSError, ValueError) as error:
            return Reply(451, "4.3.5", f"{name} cannot be run: {getattr(error, 'strerror', None) or error}")
    with process:
        try:
            said = _listen(process, deadline)
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            return Reply(451, "4.3.0", f"{name} took longer than {seconds:.0f} seconds")
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return reply(name, status, said)


def _listen(process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """Return the beginning of the program's output; the rest is read and dropped. TimeoutError when the output does not
    end in time."""
    assert process.stdout is not None
    kept = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return kept
            kept += piece[: OUTPUT - len(kept)]


def reply(name: str, status: int, said: bytes) -> Reply:
    """Return the Reply for an exit status (negative: a signal) and the output."""
    text = " ".join(said.decode("utf-8", "replace").strip().partition("\n")[0].split())[:300]
    text = "".join(c if c.isprintable() else "?" for c in text)
    own = _STATUS.match(text)
    if status == 0:
        return Reply(250, "2.0.0", text or f"{name} took it")
    if own is not None and own.group(1) != "2":
        return Reply(550 if own.group(1) == "5" else 451, own.group(0).strip(), text[own.end() :] or f"{name} refused")
    if status < 0:
        return Reply(451, "4.3.0", f"{name} was ended by signal {-status}" + (f": {text}" if text else ""))
    if status in TEMPORARY:
        return Reply(451, "4.3.0", text or f"{name} ended with status {status}")
    return Reply(550, STATUS.get(status, "5.3.0"), text or f"{name} ended with status {status}")
