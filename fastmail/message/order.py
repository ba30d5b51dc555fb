"""Keys by which SORT and THREAD compare messages (RFC 5256 2, RFC 5957 3): octets that sort in the order of the
collation.

Most keys are made by the compiled reader of summaries (_core/order.pyx). It hands back the values that are not plain
ASCII, and those are decoded here. A broken value raises nothing. Nothing is cached here, because strangers decide how
long a value is.
"""

from hashlib import blake2b

from fastmail._core import order
from fastmail.message.collate import titlecased
from fastmail.message.text import decode_value

MOST = 1024  # octets of a key; KEY_MOST of _core/order.pxd


def _key(text: str) -> bytes:
    """Return the titlecased text in UTF-8. A long one is cut to its beginning, which decides the order, plus a digest
    of the whole: so different texts stay different, and a mailbox of long subjects does not fill the memory."""
    whole = titlecased(text).encode("utf-8", "surrogatepass")
    return whole if len(whole) <= MOST else whole[: MOST - 16] + blake2b(whole, digest_size=16).digest()


def subject_key(value: bytes) -> tuple[bytes, bool]:
    """Return (key of the base subject, True for the subject of a reply or forward) for a field's value; the key is
    empty when nothing is left."""
    base, reply = order.base_subject(decode_value(value).encode("utf-8", "surrogatepass"))
    return _key(base.decode("utf-8", "surrogatepass")), reply


def text_key(value: bytes, otherwise: bytes = b"") -> bytes:
    """Return the key of a name or local part from an ENVELOPE; of ``otherwise`` when the value is empty."""
    return _key(decode_value(value) or decode_value(otherwise))
