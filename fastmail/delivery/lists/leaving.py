"""A member leaves a mailing list, by mail (delivery.lists.requests) or by a web page (admin.unsubscribe)."""

from contextlib import suppress

from fastmail.directory.errors import NoSuchUser
from fastmail.directory.interface import Directory
from fastmail.model.address import comparable
from fastmail.model.errors import DamagedAccount
from fastmail.telemetry import log


def leave(directory: Directory, of: str, address: str) -> bool:
    """Remove a member from the list ``of``, on the disk when this returns. False if it was no member; calling this
    again changes nothing."""
    with suppress(DamagedAccount):  # a member whose row is damaged can leave all the same
        if directory.member(of, address) is None:
            return False  # found out without the lock of those who write
    try:
        directory.remove_member(of, comparable(address))
    except NoSuchUser:  # another process was faster, or the list is gone
        return False
    log.event("list.left", list=of, member=address)
    return True
