"""Keys by which SORT and THREAD compare a message (RFC 5256 2, RFC 5957 3): octets in the order of the collation.

Most keys are made by the compiled reader of summaries (_core/order.pyx), which hands out the values that are not plain
ASCII; those are decoded here. Nothing raises for a broken value, and nothing is remembered here: a stranger decides how
long a value is.
"""

from hashlib import blake2b

from fastmail._core import order
from fastmail.message.collate import titlecased
from fastmail.message.text import decode_value

MOST = 1024  # octets of a key; KEY_MOST of _core/order.pxd


def _key(text: str) -> bytes:
    """The titlecased text in UTF-8. Of a long one its beginning, by which it is ordered, and a digest of the whole: so
    different texts stay different, and a mailbox of long subjects does not fill the memory."""
    whole = titlecased(text).encode("utf-8", "surrogatepass")
    return whole if len(whole) <= MOST else whole[: MOST - 16] + blake2b(whole, digest_size=16).digest()


def subject_key(value: bytes) -> tuple[bytes, bool]:
    """(key of the base subject, empty when there is none; is it that of a reply or forward?) of a field's value."""
    base, reply = order.base_subject(decode_value(value).encode("utf-8", "surrogatepass"))
    return _key(base.decode("utf-8", "surrogatepass")), reply


def text_key(value: bytes, otherwise: bytes = b"") -> bytes:
    """Key of a name or local part from an ENVELOPE; of ``otherwise`` when nothing is left of the value."""
    return _key(decode_value(value) or decode_value(otherwise))
