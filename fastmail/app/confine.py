"""Limits what a worker may write to, by Landlock (Linux 5.19 and later), so that an error in a parser does not give an
attacker access to other files.

After ``confine`` the process, its threads and its children may change nothing on disk outside the given directories,
and may gain no privileges by execve. Reading is not limited. Promise: either all of these limits are in force, or none
is and the answer says why.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION = 1  # flag: tell the version of the interface
PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38
WRITE_FILE, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 4, 1 << 5
MAKE = sum(1 << bit for bit in range(6, 13))  # devices, directories, files, sockets, FIFOs, links
REFER, TRUNCATE = 1 << 13, 1 << 14
LEAST = 2  # before it no file could be renamed from one directory to another


def confine(directories: Sequence[str]) -> str:
    """Let this process write beneath these directories only, and to /dev/null. Empty when that is so, else why not."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION))
    except (OSError, AttributeError) as error:
        return str(error)
    if version < LEAST:
        why = os.strerror(ctypes.get_errno()) if version < 0 else f"version {version} of it is too old"
        return f"this kernel has no Landlock that can be used: {why}"
    rights = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE | REFER | (TRUNCATE if version > LEAST else 0)
    ruleset = libc.syscall(CREATE_RULESET, struct.pack("=Q", rights), ctypes.c_size_t(8), ctypes.c_uint32(0))
    if ruleset < 0:
        return os.strerror(ctypes.get_errno())
    try:
        for path in [*directories, "/dev/null"]:
            here = rights if os.path.isdir(path) else rights & (WRITE_FILE | TRUNCATE)
            try:
                beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                return f"{path}: {error.strerror}"
            try:
                rule = struct.pack("=Qi", here, beneath)
                if libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, ctypes.c_uint32(0)):
                    return f"{path}: {os.strerror(ctypes.get_errno())}"
            finally:
                os.close(beneath)
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            return os.strerror(ctypes.get_errno() or errno.EPERM)
    finally:
        os.close(ruleset)
    return ""
