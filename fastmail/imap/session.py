"""The dispatcher of one IMAP session (RFC 3501 2.2, with RFC 7888 LITERAL+): octets become complete commands, which go
to the handlers of their rows in ``table``.

Promise: commands are answered in order, with one write for each batch of input. A literal is refused on its announced
size, before memory is spent; a refused non-synchronising one is skipped, and the session goes on. A syntax error is a
tagged BAD that says what was expected. An idle session holds its view (shared with others) and nothing else.
"""

import re

from fastmail._core.imap import ParseError, Reader, literal_at_end
from fastmail._core.lines import find_crlf
from fastmail.directory import standing
from fastmail.imap import places, upload
from fastmail.imap.capabilities import capabilities
from fastmail.imap.command import Command, Row
from fastmail.imap.service import Service
from fastmail.imap.state import Session
from fastmail.imap.table import COMMANDS, refusal
from fastmail.imap.upload import APPENDS, Upload
from fastmail.model.errors import CannotDo
from fastmail.net.connection import Connection
from fastmail.telemetry.counters import count

BEFORE_LOGIN = 65536  # octets of the longest line before login: a login token may be long
LITERALS_BEFORE_LOGIN = 8192  # octets of a command's literals before login: names and passwords are far shorter
SHORT_LINE = 8192  # octets of the longest line between messages of an APPEND, or of a STORE that joins a batch
SWALLOWED = 1 << 26  # a larger refused literal ends the session, unless a message may be as large
TAG_OF_LONG = 300  # octets kept of a line that is too long, to find its tag
_TAG = re.compile(rb'[^\x00-\x20(){%*"\\+\x7f-\xff]{1,256}')


def _tag(line: bytes) -> bytes:
    """Return the tag of a line that may not be a command."""
    match = _TAG.match(line)
    return match.group(0) if match else b"*"


def _behind_uid(reader: Reader) -> bytes:
    """Return the command whose UID form this is (RFC 3501 6.4.8)."""
    reader.sp()
    return reader.atom().upper()


class ImapSession(Session):
    """See the module. The connection calls the methods of the first part."""

    __slots__ = (  # noqa: RUF023 - in the order in which a reader meets them
        # the input that ``feed`` works on, and how far it is
        "_data",
        "_at",
        # a command that is not complete: its lines and literals so far, and octets of the literal that are to come
        "_line",
        "_literal",
        # a message of an APPEND that is not complete
        "_upload",
        # what is refused: the rest of a long line; octets of a literal; the reply when it is over
        "_skipping",
        "_swallow",
        "_refused",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        super().__init__(service, connection)
        self._data: memoryview | None = None
        self._at = 0
        self._line = b""
        self._literal = 0
        self._upload: Upload | None = None
        self._skipping = False
        self._swallow = 0
        self._refused = b""

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self.conn.write(b"* OK [CAPABILITY " + capabilities(self) + b"] fastmail ready\r\n")
        self.conn.touch(self.service.limits.login_timeout, fixed=True)

    def tls_started(self) -> None:
        self._line = b""
        self.conn.touch(self.service.limits.login_timeout, fixed=True)

    def timed_out(self) -> None:
        self.conn.write(b"* BYE idle for too long\r\n" if self.account else b"* BYE login took too long\r\n")
        self.conn.close()

    def ended(self) -> str:
        verifier, selected = self.service.verifier, self.selected
        why = verifier.ended(self.login)
        if not why and self.login is not None and selected is not None and selected.account is not self.account:
            why = verifier.owner_ended(selected.account.id, selected.account.address)
            if not why and self.idle is not None:
                self.idle.stirred()  # whoever left a group may have lost its rights
        return why

    def dismiss(self, why: str) -> None:
        code = (
            "EXPIRED"
            if why in (standing.CHANGED, standing.EXPIRED)
            else "NONEXISTENT"
            if why == standing.OWNER
            else "CONTACTADMIN"
        )
        self.conn.write(f"* BYE [{code}] {why}\r\n".encode())
        self.conn.close()

    def failed(self) -> None:
        """A bug ended a command. Its tag may be lost, so the client is asked to connect again."""
        self.conn.write(b"* BYE internal error, please connect again\r\n")
        self.conn.close()

    def lost(self) -> None:
        self.leave()
        self._drop_upload()

    def feed(self, data: memoryview) -> int:
        """Take what can be taken now; return how many octets that is."""
        self._data, self._at = data, 0
        if self.account is not None:
            self.conn.touch(self.service.limits.idle_timeout)
        try:
            return self._feed(data)
        finally:
            self._data = None  # the connection will read into the same memory again
            if self._upload is not None:
                self._upload.place = None  # until the rest comes, others may change what it says

    # ---------------------------------------------------------------- octets to commands

    def _feed(self, data: memoryview) -> int:
        position, size, conn = 0, len(data), self.conn
        while position < size and not conn.busy and not conn.closing and not conn.full:
            if self._swallow:
                step = min(self._swallow, size - position)
                self._swallow -= step
                position += step
                continue
            if self._upload is not None and self._upload.left:
                position = self._upload.take(conn, data, position)
                continue
            if self._literal:
                step = min(self._literal, size - position)
                self._line += bytes(data[position : position + step])
                self._literal -= step
                position += step
                continue
            end = find_crlf(data, position, size)
            most = self.service.limits.command_line if self.account is not None else BEFORE_LOGIN
            if end < 0:
                if size - position + len(self._line) > most:
                    if not self._skipping and not self._line:
                        self._line = bytes(data[position : position + TAG_OF_LONG])
                    self._skipping = True
                    return size
                return position
            line = bytes(data[position:end]).removesuffix(b"\r")
            position = end + 1
            if self._skipping or len(line) + len(self._line) > most:
                self._too_long(line)
            elif self._refused:
                self._refuse_now(line)
            elif self.idle is not None:
                self.idle.line(line)
            elif self.sasl is not None:
                self.sasl.line(line)
            else:
                plain = not conn.deflated
                self._at = position
                self._complete(line)
                position = self._at  # a STORE may have taken the STOREs after it, too
                if plain and conn.deflated:
                    return size
        return position

    def _too_long(self, line: bytes) -> None:
        tag = _tag(self._line or line) if not self._skipping or self._line else b"*"
        self._skipping = False
        self._drop()
        if self.sasl is not None:
            tag = self.sasl.tag
            self.sasl.abandon()
        self.bad(tag, "line is too long")

    def _drop(self) -> None:
        """Forget an incomplete command."""
        self._line = b""
        self._literal = 0
        self._refused = b""
        self._drop_upload()

    def _drop_upload(self) -> None:
        if self._upload is not None:
            self._upload.drop()
            self._upload = None

    def _complete(self, line: bytes) -> None:
        """Take a line without its end: a complete command, or a literal follows."""
        literal = literal_at_end(line)
        if self._upload is not None:
            if literal is not None and line.startswith((b" ", b")")):
                self._next_message(self._upload, line, *literal)
            else:
                whole, self._upload = self._upload, None
                self._run_append(whole, line)
            return
        if literal is not None:
            self._announced(self._line + line, *literal)
            return
        if self._line:
            line, self._line = self._line + line, b""
        if line:
            self._dispatch(line)

    # ---------------------------------------------------------------- literals

    def _announced(self, whole: bytes, size: int, sync: bool) -> None:
        """A literal follows: a part of the command, or a message."""
        most = self.service.limits.command_line if self.account is not None else LITERALS_BEFORE_LOGIN
        if self.account is not None and upload.is_message(whole):
            begun = upload.begin(self, whole, size)
            refused = begun if isinstance(begun, str) else ""
            if isinstance(begun, Upload):
                self._upload, self._line = begun, b""
        elif size + len(whole) > most:
            refused = "BAD literal is too big here"
        else:
            refused = ""
            self._line = whole + b"\r\n"
            self._literal = size
        if refused:
            self._refuse(_tag(whole), refused, size, sync)
        elif sync:
            self.conn.write(b"+ ok\r\n")

    def _next_message(self, last: Upload, line: bytes, size: int, sync: bool) -> None:
        """Another message of the same APPEND follows."""
        begun: Upload | str
        if len(last.before) >= APPENDS or len(line) > SHORT_LINE:
            begun = f"NO [LIMIT] at most {APPENDS} messages are taken at once"
        else:
            begun = upload.begin(self, line, size, last)
        if isinstance(begun, str):
            self._refuse(last.tag, begun, size, sync)
            return
        self._upload, self._line = begun, b""
        if sync:
            self.conn.write(b"+ ok\r\n")

    def _refuse(self, tag: bytes, why: str, size: int, sync: bool) -> None:
        """Refuse a literal: say so now, or once it was skipped."""
        count("imap.literals_refused")
        self._drop()
        if sync:
            self.conn.write(tag + b" " + why.encode() + b"\r\n")
            self.count_error()
        elif size > max(self.service.limits.message_size, SWALLOWED):
            self._literal_too_big()
        else:
            self._swallow = size
            self._refused = tag + b" " + why.encode() + b"\r\n"

    def _literal_too_big(self) -> None:
        self.conn.write(b"* BYE literal is too big\r\n")
        self.conn.close()

    def _refuse_now(self, line: bytes) -> None:
        """The literal of a refused command was skipped; the rest of the line may announce another one."""
        literal = literal_at_end(line)
        if literal is not None:
            size, sync = literal
            if not sync:
                if size > max(self.service.limits.message_size, SWALLOWED):
                    self._literal_too_big()
                else:
                    self._swallow = size
                return
        reply, self._refused = self._refused, b""
        self.conn.write(reply)
        self.count_error()

    def _run_append(self, whole: Upload, rest: bytes) -> None:
        """The literals of an APPEND or REPLACE are complete, and so is the command."""
        reader = Reader(whole.whole(rest))
        tag, name = reader.head()
        by_uid = name == b"UID"
        if by_uid:
            reader.skip(b" REPLACE")
            name = b"REPLACE"
        command = Command(self, self, tag, name, by_uid, reader, COMMANDS[name])
        command.uploads = whole.all
        if self._rights_stand(command):
            self.conn.run_brief(command.run(self._append(command, whole)))
        else:
            whole.drop()

    async def _append(self, command: Command, whole: Upload) -> None:
        try:
            work = command.row.handler(command)
            if work is not None:
                await work
        finally:
            whole.drop()

    # ---------------------------------------------------------------- commands to handlers

    def _dispatch(self, whole: bytes) -> None:
        """Run a complete command, its literals included."""
        reader = Reader(whole)
        try:
            tag, name = reader.head()
        except ParseError as error:
            self.bad(_tag(whole), f"{error.expected} expected")
            return
        by_uid = name == b"UID"
        if by_uid:
            try:
                name = _behind_uid(reader)
            except ParseError as error:
                self.bad(tag, f"{error.expected} expected")
                return
        row = COMMANDS.get(name)
        if row is None or (by_uid and not row.uid):
            self.bad(tag, refusal(None, self.state))
            return
        command = Command(self, self, tag, name, by_uid, reader, row)
        if not self.may_begin(command):
            return
        try:
            work = row.handler(command)
        except Exception as error:
            command.fail(error)
            return
        if work is not None:
            begin = self.conn.run_brief if row.brief else self.conn.run_now
            begin(command.run(work))

    def may_begin(self, command: Command) -> bool:
        """True if the command may run in this state, with the present rights. Otherwise it is answered here."""
        row, selected = command.row, self.selected
        state = self.state
        if not row.states & state:
            command.bad(refusal(row, state))
            return False
        if self.uidonly and row.uid and not (command.by_uid or row.plain):
            command.bad("[UIDREQUIRED] sequence numbers are off: use UID " + command.name.decode())
            return False
        if selected is None:
            return True
        if selected.open_section is not None and not row.keeps_section:
            selected.open_section = None
        return selected.account is self.account or self._rights_stand(command)

    def _rights_stand(self, command: Command) -> bool:
        """Look up the rights on a selected mailbox of another account, before every command. False if it may not be
        read any more; the command was answered then."""
        if self.selected is not None and self.selected.account is not self.account:
            try:
                places.refresh(self)
            except CannotDo as error:
                command.fail(error)
                return False
        return True

    def following(self, row: Row) -> Command | None:
        """Take the next command out of the input, if it is complete and has this row; else None."""
        data, conn = self._data, self.conn
        if data is None or self._at >= len(data) or conn.closing or conn.full:
            return None
        end = find_crlf(data, self._at, len(data))
        if end < 0 or end - self._at > SHORT_LINE:
            return None
        whole = bytes(data[self._at : end]).removesuffix(b"\r")
        if literal_at_end(whole) is not None:
            return None
        reader = Reader(whole)
        try:
            tag, name = reader.head()
            by_uid = name == b"UID"
            if by_uid:
                name = _behind_uid(reader)
        except ParseError:
            return None
        if COMMANDS.get(name) is not row or (by_uid and not row.uid):
            return None
        self._at = end + 1
        return Command(self, self, tag, name, by_uid, reader, row)
