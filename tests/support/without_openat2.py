"""A process in which openat2 is what it is in an older kernel (ENOSYS), or under an older container's filter (EPERM)."""

import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable

from tests.support import seccomp

OPENAT2 = 437  # on every architecture
WAYS = {"openat2": 0, "ENOSYS": 38, "EPERM": 1}


def refuse(code: int) -> None:
    """From here on openat2 fails with this errno in this process."""
    program = [
        seccomp.LOAD_NUMBER,
        struct.pack("=HBBI", 0x15, 0, 1, OPENAT2),
        struct.pack("=HBBI", 0x06, 0, 0, seccomp.ERRNO | code),
        struct.pack("=HBBI", 0x06, 0, 0, seccomp.ALLOW),
    ]
    seccomp.install(b"".join(program))


def run(way: str, work: Callable[[], None]) -> None:
    """Do the work in a child where openat2 is as ``way`` has it; AssertionError when it fails there, or takes 20 s."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if WAYS[way]:
                refuse(WAYS[way])
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + 20
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"{way}: see the traceback above"
            return
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"{way}: something waits for ever")
        time.sleep(0.01)
