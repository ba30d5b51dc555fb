"""Commands, addresses, header edits and files of other servers: every parser outside the scanner that a stranger feeds."""

from collections.abc import Callable
from contextlib import suppress

from fastmail._core import lines, smtp
from fastmail._core.imap import Reader
from fastmail._core.uidset import UidSet
from fastmail.imap import url, urlauth
from fastmail.message import recode, submitted
from fastmail.model import mailbox_name
from fastmail.model.errors import CannotDo
from fastmail.store.local.dovecot import control_files
from tests.support.growth import Case


def tried(call: Callable[..., object], *arguments: object) -> None:
    """What a server does with a peer's line: take it, or refuse it."""
    with suppress(ValueError, CannotDo):
        call(*arguments)


def keys(text: bytes) -> None:
    tried(lambda: Reader(text).search())


CASES = [
    Case("imap: a set of many ranges", 4_000, lambda n: b",".join(b"%d" % (n - k) for k in range(n)),
         lambda text: UidSet.of_ranges(Reader(text).sequence_set() or (), 9)),
    Case("imap: search keys", 4_000, lambda n: b" ".join([b"SUBJECT x"] * n), keys),
    Case("imap: search keys in brackets", 4_000, lambda n: b"(" * n + b"ALL" + b")" * n, keys),
    Case("imap: NOT NOT NOT", 4_000, lambda n: b"NOT " * n + b"ALL", keys),
    Case("imap: a quoted string of quotes", 20_000, lambda n: b'"' + b'\\"' * n + b'"', lambda t: Reader(t).string()),
    Case("imap: a name of shifts", 10_000, lambda n: b"&" * n, lambda t: tried(mailbox_name.decode_utf7, t)),
    Case("imap: a name of open shifts", 5_000, lambda n: b"&-&" * n, lambda t: tried(mailbox_name.decode_utf7, t)),
    Case("imap: a URL of accesses", 2_000, lambda n: ";URLAUTH=a" * n + ":", urlauth.cut),
    Case("imap: a URL of tokens", 2_000, lambda n: ":INTERNAL:0" * n + "x", urlauth.cut),
    Case("imap: a URL of slashes", 5_000, lambda n: "/" * n + "x", url.parse),
    Case("imap: a URL of parts", 2_000, lambda n: "imap://u@h/b" + "/;SECTION=1" * n, url.parse),
    Case("smtp: a path of routes", 10_000, lambda n: b"<" + b"@a," * n + b"@a:b@c>", lambda t: tried(smtp.parse_path, t, 0, False)),
    Case("smtp: a path of quotes", 10_000, lambda n: b'<"' + b'\\"' * n + b'"@c>', lambda t: tried(smtp.parse_path, t, 0, False)),
    Case("smtp: parameters", 10_000, lambda n: b" A=b" * n, lambda t: tried(smtp.parse_params, t, 0)),
    Case("smtp: xtext", 20_000, lambda n: b"+41" * n, lambda t: tried(smtp.xtext, t)),
    Case("lines: dots", 50_000, lambda n: b"..\r\n" * n, lambda t: lines.ContentReader(True, 1 << 30).feed(t)),
    Case("lines: CR", 50_000, lambda n: b"\r" * n, lambda t: lines.ContentReader(True, 1 << 30).feed(t)),
    Case("uidlist of another server", 2_000,
         lambda n: b"3 V1 N%d\n" % (n + 1) + b"".join(b"%d :name.%d\n" % (k, k) for k in range(1, n + 1)), control_files.parse_uidlist),
    Case("recode: parts", 300,
         lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\nContent-Transfer-Encoding: binary\n\n\xe4\n" * n + b"--b--\n",
         recode.without_binary),
    Case("submitted: header without fields", 10_000, lambda n: b"a: b\n" * n + b"\n", lambda t: submitted.complete(t, "a@b", "h")),
]  # fmt: skip
