"""How items and jobs are stored: MessagePack arrays that begin with a version.

``ItemRow`` is the layout of an item. The order of its fields never changes. A row of an earlier version is shorter, and
missing fields have their defaults. New fields are added at the end; older servers ignore them. A job is stored as it is
(queue.model.Job).

A row that cannot be read raises CorruptData. The parameters SIZE and BODY that a client gave with MAIL are not stored:
``size`` and ``eight`` are measured instead.
"""

import msgspec

from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import EsmtpOptions
from fastmail.queue.model import Item, Job

VERSION = 1


class ItemRow(msgspec.Struct, array_like=True):
    """One row of the table ``item``. ``salt``, ``mailbox``, ``owner``, ``signed``, ``checked``, ``mailing_list``,
    ``verp``, ``token``, ``places`` and ``junk`` came after the others, in this order. An older server sends a message
    whose octets it changes with a signature that does not fit, and seals nothing; it would send mail of a list to its
    address, not to its members, but it does not open the directory of lists. To accounts in ``places`` it delivers to
    ``mailbox``, and it forwards what is ``junk`` for a recipient."""

    version: int
    id: int
    sender: str
    arrived: int
    size: int
    record: int = 0
    skip: int = 0
    length: int = 0
    utf8: bool = False
    eight: bool = False
    ret: str = ""
    envid: str = ""
    helo: str = ""
    peer: str = ""
    login: str = ""
    protocol: str = ""
    require_tls: bool = False
    release: int = 0
    by: int = 0
    by_mode: str = ""
    priority: int = 0
    hold: bytes = b""
    shared_with: str = ""
    checksum: int = 0
    salt: bytes = b""
    mailbox: str = ""
    owner: str = ""
    signed: str = ""
    checked: bool = False
    mailing_list: str = ""
    verp: bool = False
    token: bytes = b""
    places: dict[int, str] = {}
    junk: tuple[str, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(ItemRow).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode
_ASKED = ("utf8", "ret", "envid", "require_tls", "release", "by", "by_mode", "priority")  # options that are stored
_PLAIN = tuple(name for name in ItemRow.__struct_fields__ if name not in (*_ASKED, "version"))


def item_row(item: Item) -> bytes:
    """Return the row of an item."""
    own = {name: getattr(item, name) for name in _PLAIN}
    asked = {name: getattr(item.options, name) for name in _ASKED}
    return _encode(ItemRow(VERSION, **own, **asked))


def read_item(raw: bytes) -> Item:
    """Return the item of a row. Raises CorruptData."""
    try:
        row = _decode_item(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"a message's record in the queue is damaged: {error}") from None
    asked = EsmtpOptions(**{name: getattr(row, name) for name in _ASKED})
    return Item(options=asked, **{name: getattr(row, name) for name in _PLAIN})


def job_row(job: Job) -> bytes:
    """Return the row of a job."""
    return _encode(job)


def read_job(raw: bytes) -> Job:
    """Return the job of a row. Raises CorruptData."""
    try:
        return _decode_job(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"a job's record in the queue is damaged: {error}") from None
