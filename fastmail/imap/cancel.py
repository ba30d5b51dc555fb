"""CANCELUPDATE (RFC 5267 4.3.5): the client no longer wants to be kept up to date on these searches."""

from fastmail._core.imap import ParseError
from fastmail.imap import updates
from fastmail.imap.command import Command, Work


def cancel(command: Command) -> Work:
    """RFC 5267 4.3.5."""
    selected, reader = command.session.selected, command.reader
    assert selected is not None
    names = []
    while True:
        reader.sp()
        names.append(reader.string())
        if reader.peek() != 32:
            break
    reader.end()
    if not all(updates.in_use(selected, name) for name in names):
        raise ParseError("tags of searches that are kept up to date", reader.pos)
    selected.contexts = [context for context in selected.contexts if context.tag not in names]
    return command.finish(b"OK CANCELUPDATE completed")
