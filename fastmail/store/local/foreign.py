"""Control files that Dovecot and Courier leave in a Maildir: UIDs and keyword names are taken over from them.

Read only. A file that is damaged is ignored as a whole (new UIDs are better than wrong ones), never repaired.
"""

import os
from dataclasses import dataclass, field


@dataclass(slots=True)
class UidList:
    """What a control file says: UIDVALIDITY, the next UID, and the UID of each base name."""

    uidvalidity: int = 0
    uidnext: int = 1
    uids: dict[bytes, int] = field(default_factory=dict)


def read_uidlist(directory: str) -> UidList | None:
    """``dovecot-uidlist`` version 3 or 1, or ``courierimapuiddb`` (which has the form of version 1)."""
    for name in ("dovecot-uidlist", "courierimapuiddb"):
        try:
            with open(os.path.join(directory, name), "rb") as file:
                found = parse_uidlist(file.read(256 << 20))
        except OSError:
            continue
        if found is not None:
            return found
    return None


def parse_uidlist(data: bytes) -> UidList | None:
    """None when it is damaged or of a version that nobody has described."""
    lines = data.replace(b"\r", b"").split(b"\n")
    header = lines[0].split(b" ")
    out = UidList()
    try:
        if header[0] == b"3":
            fields = {token[:1]: token[1:] for token in header[1:] if token}
            out.uidvalidity, out.uidnext = int(fields[b"V"]), int(fields[b"N"])
        elif header[0] == b"1":
            out.uidvalidity, out.uidnext = int(header[1]), int(header[2])
        else:
            return None
        last = 0
        for line in lines[1:]:
            if not line:
                continue
            number, _, rest = line.partition(b" ")
            uid = int(number)
            if header[0] == b"3":
                at = 0 if rest.startswith(b":") else rest.find(b" :") + 1
                name = rest[at + 1 :] if rest[at : at + 1] == b":" else b""
            else:
                name = rest
            if uid <= last or not name:
                return None
            last = uid
            out.uids[name.partition(b":")[0]] = uid
    except (ValueError, IndexError, KeyError):
        return None
    if not 0 < out.uidvalidity <= 0xFFFFFFFF or not 0 < out.uidnext <= 0xFFFFFFFF or last >= 0xFFFFFFFF:
        return None
    out.uidnext = max(out.uidnext, last + 1)
    return out


def read_keywords(directory: str) -> list[bytes]:
    """Names of the letters a, b, ...; from ``dovecot-keywords``; gaps become ``unknown-<n>``."""
    names: dict[int, bytes] = {}
    try:
        with open(os.path.join(directory, "dovecot-keywords"), "rb") as file:
            for line in file.read(65536).split(b"\n"):
                number, space, word = line.partition(b" ")
                usable = word and all(32 < c < 127 and c not in b'(){%*"\\]' for c in word)
                if space and number.isdigit() and int(number) < 26 and usable and int(number) not in names:
                    names[int(number)] = word
    except OSError:
        return []
    return [names.get(i, b"unknown-%d" % i) for i in range(max(names, default=-1) + 1)]
