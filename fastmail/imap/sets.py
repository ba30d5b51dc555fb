"""The messages that a command names (RFC 3501 6.4.8, 9 sequence-set). Sets are resolved against the session's frozen
view, never against the mailbox as it is now.
"""

from fastmail._core.imap import ParseError
from fastmail._core.uidset import UidSet
from fastmail.imap.command import Command
from fastmail.imap.views import Selected


def read_set(command: Command) -> UidSet:
    """Read a set; ParseError for a sequence number that the client does not have."""
    assert command.session.selected is not None
    return resolve(command, command.session.selected, command.reader.sequence_set())


def resolve(command: Command, selected: Selected, ranges: tuple[int, ...] | None) -> UidSet:
    """Resolve a set that was read."""
    uids = selected.resolve(ranges, command.by_uid)
    if uids is None:
        raise ParseError(f"message numbers up to {len(selected.uids)}", command.reader.pos)
    return uids
