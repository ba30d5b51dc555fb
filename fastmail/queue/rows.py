"""How items and jobs are stored: MessagePack arrays, a version first.

``ItemRow`` is the layout of an item: its fields in their order, which never changes. A row of an earlier version is
shorter, and what it lacks has its default. New fields go to the end; an older server takes no notice of them. A job is
stored as it is (queue.model.Job).

A row that cannot be read is CorruptData. Of the parameters that a client gave with MAIL, SIZE and BODY have no place
here: ``size`` and ``eight`` are what was measured.
"""

import msgspec

from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import EsmtpOptions
from fastmail.queue.model import Item, Job

VERSION = 1


class ItemRow(msgspec.Struct, array_like=True):
    """One row of the table ``item``. ``salt``, ``mailbox``, ``owner``, ``mailing_list``, ``verp`` and ``token`` came
    after the others, in this order. An older server would send mail of a list to its address, not to its members; it
    does not open the directory of lists."""

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
    mailing_list: str = ""
    verp: bool = False
    token: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(ItemRow).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode
_ASKED = ("utf8", "ret", "envid", "require_tls", "release", "by", "by_mode", "priority")  # options that are stored
_PLAIN = tuple(name for name in ItemRow.__struct_fields__ if name not in (*_ASKED, "version"))


def item_row(item: Item) -> bytes:
    """The row of an item."""
    own = {name: getattr(item, name) for name in _PLAIN}
    asked = {name: getattr(item.options, name) for name in _ASKED}
    return _encode(ItemRow(VERSION, **own, **asked))


def read_item(raw: bytes) -> Item:
    """The item of a row. CorruptData for what is none."""
    try:
        row = _decode_item(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"a message's record in the queue is damaged: {error}") from None
    asked = EsmtpOptions(**{name: getattr(row, name) for name in _ASKED})
    return Item(options=asked, **{name: getattr(row, name) for name in _PLAIN})


def job_row(job: Job) -> bytes:
    """The row of a job."""
    return _encode(job)


def read_job(raw: bytes) -> Job:
    """The job of a row. CorruptData for what is none."""
    try:
        return _decode_job(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"a job's record in the queue is damaged: {error}") from None
