"""A program under a system-call filter of systemd's, without systemd: ``python -m tests.support.seccomp UNIT [-NAME...]
-- PROGRAM ARGUMENTS``. A call that the unit does not allow kills the process, as it does there; one that is named with a
minus in front fails with ENOSYS, as in a kernel that does not have it.
"""

import ctypes
import errno
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SETS = Path(__file__).parents[1] / "data" / "systemd-252-syscalls.txt"
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD_NUMBER = struct.pack("=HBBI", 0x20, 0, 0, 0)  # seccomp_data.nr
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2


def sets() -> dict[str, list[str]]:
    """The sets of systemd 252 (Debian 12) by name: checked in, as `systemd-analyze syscall-filter` printed them."""
    found: dict[str, list[str]] = {}
    for line in SETS.read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = rest.split()
    return found


def resolve(name: str, known: dict[str, list[str]]) -> set[str]:
    """A name of a system call, or all of a set's. systemd leaves out names that it does not know."""
    if not name.startswith("@"):
        return {name}
    return set().union(*(resolve(one, known) for one in known[name]))


def allowed(unit: str, known: dict[str, list[str]]) -> set[str]:
    """What a unit's SystemCallFilter= lines leave (systemd.exec(5)): the first one says whether it lists what is allowed."""
    out: set[str] = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit):
        names = set().union(*(resolve(one, known) for one in line.removeprefix("~").split()))
        out = out - names if line.startswith("~") else out | names
    return out | resolve("@default", known)


def numbers() -> dict[str, int]:
    """System calls of this machine by name, from the C library's headers."""
    command = [shutil.which("cc") or "gcc", "-dM", "-E", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)\b", text)}


def program(calls: dict[int, int]) -> bytes:
    """A filter (BPF) that answers each number with its action, and everything else with KILL."""
    out = [LOAD_NUMBER]
    for number, action in sorted(calls.items()):
        out.append(struct.pack("=HBBI", 0x15, 0, 1, number))  # equal: the next one, else the one behind it
        out.append(struct.pack("=HBBI", 0x06, 0, 0, action))
    out.append(struct.pack("=HBBI", 0x06, 0, 0, KILL))
    return b"".join(out)


def install(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code)
    fprog = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, fprog, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def main(arguments: list[str]) -> None:
    at = arguments.index("--")
    unit, missing = Path(arguments[0]).read_text(), {name[1:] for name in arguments[1:at]}
    known = numbers()
    calls = {known[name]: ALLOW for name in allowed(unit, sets()) if name in known}
    calls |= {known[name]: ERRNO | errno.ENOSYS for name in missing}
    install(program(calls))
    os.execvp(arguments[at + 1], arguments[at + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
