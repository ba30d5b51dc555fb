"""ENABLE (RFC 5161): CONDSTORE and QRESYNC (RFC 7162), IMAP4rev2 (RFC 9051), UTF8=ACCEPT (RFC 6855), UIDONLY (RFC
9586). What is enabled stays so until UNAUTHENTICATE.
"""

from fastmail.imap.command import Command, Work


def enable(command: Command) -> Work:
    """RFC 5161: CONDSTORE, and QRESYNC, which brings it along (RFC 7162 3.2.3); IMAP4rev2 (RFC 9051 6.3.1), UTF8=ACCEPT
    (RFC 6855 3), UIDONLY (RFC 9586 3)."""
    session, reader = command.session, command.reader
    reader.sp()
    asked = [reader.atom().upper()]
    while reader.more():
        asked.append(reader.atom().upper())
    reader.end()
    done = []
    if b"QRESYNC" in asked:
        session.learn_modseq()
        session.qresync = True
        done.append(b"QRESYNC")
    if b"CONDSTORE" in asked:
        session.learn_modseq()
        done.append(b"CONDSTORE")
    if b"IMAP4REV2" in asked:
        session.rev2 = session.utf8 = True
        done.append(b"IMAP4rev2")
    if b"UTF8=ACCEPT" in asked:
        session.utf8 = True
        done.append(b"UTF8=ACCEPT")
    if b"UIDONLY" in asked:
        session.uidonly = True
        done.append(b"UIDONLY")
    session.conn.write(b"".join([b"* ENABLED", *(b" " + name for name in done), b"\r\n"]))
    return command.finish(b"OK ENABLE completed")
