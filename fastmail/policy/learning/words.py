"""The words of a message, as the classifier counts them: from what a reader sees, and from header fields that say who
wrote it and with what.

A word is single (a unigram). Pairs of neighbours (orthogonal sparse bigrams, Siefkes et al. 2004) tell spam apart a
little better where thousands of messages were learned, and cost several times the rows; people teach a few hundred.

Promise: the same message has the same words wherever it lies: trace fields, results and marks of ours do not count.
Work is linear in the message, and what is looked at is bounded: PARTS parts, TEXT octets of each, MOST words. Nothing
raises for what a message holds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from fastmail._core import header
from fastmail._core.lines import to_lf
from fastmail.message import summary as summaries
from fastmail.message import text
from fastmail.message.header import Octets

PARTS = 40
TEXT = 65536  # octets of a part's body
MOST = 2000  # different words
FIELD = 2000  # octets of a header field
SHORTEST, LONGEST = 3, 20  # characters; what is longer is counted by its first one and its length
GRAMS = 40  # pairs of characters of one run, in scripts that put no space between words
DIGEST = 16
# by field: what its words are called. The first field of each name counts.
FIELDS = {b"from": "from", b"sender": "sender", b"reply-to": "reply", b"subject": "subject", b"list-id": "list",
          b"x-mailer": "mailer", b"user-agent": "mailer", b"content-type": "type"}  # fmt: skip
_WORD = re.compile(r"[\w$\u00a3\u00a5\u20ac][\w$\u00a3\u00a5\u20ac%!'\u2019.@-]*")
_TAIL = "'\u2019.-@!"
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_HOST = re.compile(r"https?://(?:[^\s/@\"'<>?#]{0,100}@)?([A-Za-z0-9._-]{1,100})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Words:
    """``words`` of a message, and a ``digest`` by which it is known again."""

    words: frozenset[str]
    digest: bytes


def read(content: Octets) -> Words:
    """The words of a message, with LF or CRLF. Some milliseconds of CPU for a long one: on a helper thread."""
    if isinstance(content, bytes) and b"\r\n" in content:
        content = to_lf(content)  # or a long part would be cut elsewhere
    found: dict[str, None] = {}
    for word in _all(content):
        found[word] = None
        if len(found) >= MOST:
            break
    known = blake2b(digest_size=DIGEST)
    for name in (b"message-id", b"date"):
        value = header.value(content, name, FIELD) or b""
        known.update(b"%b\0" % b" ".join(bytes(value).split()))
    known.update("\0".join(sorted(found)).encode("utf-8", "surrogatepass"))
    return Words(frozenset(found), known.digest())


def _all(content: Octets) -> Iterator[str]:
    for name, called in FIELDS.items():
        value = header.value(content, name, FIELD)
        if value is not None:
            value = value.partition(b";")[0] if name == b"content-type" else value  # a boundary is never the same
            yield from (f"{called}:{word}" for word in _split(text.decode_value(bytes(value))))
    identification = header.value(content, b"message-id", FIELD) or b""
    host = bytes(identification).rpartition(b"@")[2].strip(b"<> \t\r\n")
    if host:
        yield f"id:{host[:100].decode('latin-1').lower()}"
    for number, part in enumerate(text.text_parts(content, summaries.of(content), TEXT)):
        if number >= PARTS:
            yield "many-parts"
            return
        yield from _of_part(part)


def _of_part(part: text.TextPart) -> Iterator[str]:
    if part.main:
        yield f"part:{part.main}/{part.sub}"[:50]
    for name in part.names:
        yield f"file:{name.rpartition('.')[2][:10].lower()}"
    if not part.text:
        return
    for host in _HOST.findall(part.text):
        yield f"url:{host.lower().rstrip('.')}"
    seen = text.html_text(part.text, True) if part.sub == "html" else part.text
    yield from _split(seen)


def _split(shown: str) -> Iterator[str]:
    """Words in lower case."""
    for found in _WORD.finditer(shown.lower()):
        word = found.group().rstrip(_TAIL)
        if _UNSPACED.match(word):
            yield from (word[at : at + 2] for at in range(min(max(len(word) - 1, 1), GRAMS)))
        elif SHORTEST <= len(word) <= LONGEST:
            yield word
        elif len(word) > LONGEST:
            yield f"long:{word[0]}{min(len(word), 1000) // 10}"
