"""One IMAP session (RFC 3501, with RFC 7888 LITERAL+, 4959 SASL-IR): octets to whole commands, commands to handlers,
and what every handler needs: replies, the selected mailbox, telling changes.

Promise: commands are answered in order, each batch of input with one write. A literal is refused on its announced
size, before memory is spent; a non-synchronising one is swallowed, and the session goes on. A syntax error is a
tagged BAD that names what was expected. An idle session holds its view (shared with others) and nothing else.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastmail._core.imap import ParseError, Reader, literal_at_end
from fastmail._core.lines import ContentReader, find_crlf
from fastmail._core.uidset import UidSet
from fastmail.auth.verifier import Verifier
from fastmail.directory import standing
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.directory.standing import Standing
from fastmail.durable.staging import Budget, Staged
from fastmail.imap import metadata, notify, places, quota, table
from fastmail.imap.append import APPENDS, TooBig
from fastmail.imap.context import Context, refresh, removed
from fastmail.imap.mailboxes import UseRefused, read_name
from fastmail.imap.messages import StoreJob, last_tag, run_stores
from fastmail.imap.table import AUTH, NEW, SELECTED
from fastmail.imap.turns import Turns
from fastmail.imap.views import MODSEQ_ITEM, UID_ITEM, UIDONLY_ITEM, Answers, Selected, ViewCache, changes, is_quiet
from fastmail.message.sections import UnknownEncoding
from fastmail.model.errors import (
    CannotDo,
    ClientError,
    MailboxExists,
    MailError,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    StorageFull,
    TemporaryError,
    TooMuch,
)
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from fastmail.store.filler import Filler
from fastmail.store.interface import Account, Mailbox, Store
from fastmail.store.quota import check
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

BEFORE_LOGIN = 65536  # longest line, for tokens that are logins
LITERALS_BEFORE_LOGIN = 8192
MOST_BETWEEN = 8192  # longest line between two messages of an APPEND
_TAG = re.compile(rb'[^\x00-\x20(){%*"\\+\x7f-\xff]{1,256}')
STORES = 256
# The tag is bounded: these are tried anew for each literal of a command.
_STORE = re.compile(rb"[^ ]{1,256} (UID )?STORE ", re.IGNORECASE)
_APPEND = re.compile(rb"[^ ]{1,256} (APPEND|(UID )?REPLACE [0-9*]+) ", re.IGNORECASE)
CODES: list[tuple[type[MailError], str]] = [
    (UseRefused, "[USEATTR] "),
    (UnknownEncoding, "[UNKNOWN-CTE] "),
    (TooBig, "[TOOBIG] "),
    (OverQuota, "[OVERQUOTA] "),
    (NoPermission, "[NOPERM] "),
    (quota.NoSuchRoot, "[NONEXISTENT] "),
    (metadata.EntryTooBig, f"[METADATA MAXSIZE {metadata.LONGEST}] "),
    (metadata.TooManyEntries, "[METADATA TOOMANY] "),
    (NoSuchMailbox, "[NONEXISTENT] "),
    (MailboxExists, "[ALREADYEXISTS] "),
    (CannotDo, "[CANNOT] "),
    (TooMuch, "[LIMIT] "),
]


@dataclass(slots=True)
class Service:
    """What all IMAP sessions of a worker share."""

    hostname: str
    limits: Limits
    store: Store
    verifier: Verifier
    account: Callable[[AccountRecord], Account]
    staging: str
    directory: Directory
    admins: frozenset[str] = frozenset()
    shared: tuple[str, ...] = ()
    anyone: str = places.LIST
    admin_contact: str = ""
    filler: Filler | None = None
    plaintext: bool | str = False
    separator: str = "/"
    prefix: str = ""
    dotted: bool = False
    views: ViewCache = field(default_factory=ViewCache)
    answers: Answers = field(default_factory=Answers)
    budget: Budget = field(default_factory=Budget)
    turns: Turns = field(default_factory=Turns)


@dataclass(slots=True)
class Upload:
    """A message literal of an APPEND under way: ``command`` is what came before it since the last one, ``before`` the
    literals of the same command that are complete (RFC 3502)."""

    command: bytes
    left: int
    reader: ContentReader
    staged: Staged
    binary: bool = False
    size: int = 0  # as announced
    rest: bytes = b""
    before: "list[Upload]" = field(default_factory=list)

    @property
    def first(self) -> "Upload":
        return self.before[0] if self.before else self

    def drop(self) -> None:
        """Forget all of them."""
        for one in [*self.before, self]:
            one.staged.drop()


class ImapSession:
    """See the module."""

    __slots__ = (
        "_by_uid",
        "_expunges",
        "_idle",
        "_line",
        "_literal",
        "_refused",
        "_sasl",
        "_skipping",
        "_swallow",
        "account",
        "condstore",
        "conn",
        "context_modseq",
        "contexts",
        "errors",
        "failures",
        "ids",
        "login",
        "notify",
        "part",
        "qresync",
        "record",
        "rev2",
        "selected",
        "service",
        "stores",
        "uidonly",
        "upload",
        "utf8",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self.service = service
        self.conn = connection
        self.record: AccountRecord | None = None
        self.account: Account | None = None
        self.login: Standing | None = None
        self.selected: Selected | None = None
        self.errors = 0
        self.failures = 0
        self.ids = 0  # ID commands that were logged
        self.condstore = False  # the client knows MODSEQs (RFC 7162 3.1)
        self.qresync = False
        self.rev2 = False  # IMAP4rev2 was enabled (RFC 9051): no \\Recent, SEARCH answers with ESEARCH
        self.notify: Any = None  # what NOTIFY asked for
        self.contexts: list[Context] = []  # searches whose results are kept up to date
        self.context_modseq = 0
        self.utf8 = False  # mailbox names in UTF-8 (RFC 9051, RFC 6855)
        self.uidonly = False  # no sequence numbers (RFC 9586)
        self.upload: Upload | None = None
        self.part: tuple[Any, bytes] | None = None  # a big section that is fetched piece by piece
        self.stores: list[list[StoreJob | bytes]] = []  # STOREs that came together and are not run yet, and replies
        self._by_uid = False
        self._expunges = True
        self._idle: Any = None
        self._sasl: Any = None
        self._line = b""  # a command whose literals are still coming
        self._literal = 0
        self._swallow = 0
        self._refused = b""
        self._skipping = False

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        from fastmail.imap.authenticate import capabilities

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
        return why

    def dismiss(self, why: str) -> None:
        code = "EXPIRED" if why == standing.CHANGED else "NONEXISTENT" if why == standing.OWNER else "CONTACTADMIN"
        self.conn.write(f"* BYE [{code}] {why}\r\n".encode())
        self.conn.close()

    def failed(self) -> None:
        """A bug: the command's tag may be lost, so the client is told to come again."""
        self.conn.write(b"* BYE internal error, please connect again\r\n")
        self.conn.close()

    def lost(self) -> None:
        self.leave()
        if self.upload is not None:
            self.upload.drop()
            self.upload = None

    # ---------------------------------------------------------------- octets to commands

    def feed(self, data: memoryview) -> int:
        position, size = 0, len(data)
        conn = self.conn
        if self.account is not None:
            conn.touch(self.service.limits.idle_timeout)
        while position < size and not conn.busy and not conn.closing and not conn.full:
            if self._swallow:
                step = min(self._swallow, size - position)
                self._swallow -= step
                position += step
                continue
            if self.upload is not None and self.upload.left:
                position = self._upload(data, position)
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
                        self._line = bytes(data[position : position + 300])  # its tag
                    self._skipping = True
                    return size
                return position
            line = bytes(data[position:end]).removesuffix(b"\r")
            position = end + 1
            if self._skipping or len(line) + len(self._line) > most:
                self._too_long(line)
                continue
            if self._refused:
                self._refuse_now(line)
            elif self._idle is not None:
                self._idle.line(line)
            elif self._sasl is not None:
                self._sasl.line(line)
            else:
                plain = not conn.deflated
                self._complete(line)
                if plain and conn.deflated:
                    return size
                if self.stores and not self._more_stores(data, position):
                    waves, self.stores = self.stores, []
                    conn.run_now(self._guarded(last_tag(waves), run_stores(self, waves)))
        return position

    def _more_stores(self, data: memoryview, position: int) -> bool:
        """Is the next command, already here as a whole, a STORE too?"""
        if len(self.stores) > 1 or len(self.stores[0]) >= STORES:
            return False
        end = find_crlf(data, position, len(data))
        if end < 0 or end - position > MOST_BETWEEN:
            return False
        return _STORE.match(data[position:end]) is not None and bytes(data[end - 2 : end]) != b"}\r"

    def _too_long(self, line: bytes) -> None:
        start = self._line or line
        match = _TAG.match(start) if not self._skipping or self._line else None
        self._skipping = False
        self._drop()
        tag = match.group(0) if match else b"*"
        if self._sasl is not None:
            tag, self._sasl = self._sasl.tag, None
        self.bad(tag, "line is too long")

    def _drop(self) -> None:
        """Forget a command that was not complete."""
        self._line = b""
        self._literal = 0
        self._refused = b""
        if self.upload is not None:
            self.upload.drop()
            self.upload = None

    def _complete(self, line: bytes) -> None:
        """A line without its end: a whole command, or a literal follows."""
        literal = literal_at_end(line)
        if self.upload is not None:
            if literal is not None and line.startswith((b" ", b")")):
                self._next_upload(self.upload, line, *literal)
                return
            upload, self.upload = self.upload, None
            self._run_append(upload, line)
            return
        whole = self._line + line
        if literal is None:
            self._line = b""
            self._dispatch(whole)
            return
        size, sync = literal
        most = self.service.limits.command_line if self.account is not None else LITERALS_BEFORE_LOGIN
        match = _TAG.match(whole)
        tag = match.group(0) if match else b"*"
        if self.account is not None and _APPEND.match(whole) and self._is_message(whole):
            refusal = self._begin_upload(whole, size)
        elif size + len(whole) > most:
            refusal = "BAD literal is too big here"
        else:
            refusal = ""
            self._line = whole + b"\r\n"
            self._literal = size
        if not refusal:
            if sync:
                self.conn.write(b"+ ok\r\n")
            return
        self._refuse(tag, refusal, size, sync)

    def _next_upload(self, upload: Upload, line: bytes, size: int, sync: bool) -> None:
        """One more message of the same APPEND."""
        tag = upload.first.command.partition(b" ")[0]
        if len(upload.before) >= APPENDS or len(line) > MOST_BETWEEN:
            refusal = f"NO [LIMIT] at most {APPENDS} messages are taken at once"
        else:
            refusal = self._begin_upload(line, size, upload)
        if refusal:
            upload.drop()
            self._refuse(tag, refusal, size, sync)
            return
        assert self.upload is not None
        self.upload.before = [*upload.before, upload]
        if sync:
            self.conn.write(b"+ ok\r\n")

    def _refuse(self, tag: bytes, refusal: str, size: int, sync: bool) -> None:
        """A literal that is not taken: say so, now or once it was swallowed."""
        count("imap.literals_refused")
        self._drop()
        if sync:
            self.conn.write(tag + b" " + refusal.encode() + b"\r\n")
            self._count_error()
        elif size > max(self.service.limits.message_size, 1 << 26):
            self.conn.write(b"* BYE literal is too big\r\n")
            self.conn.close()
        else:
            self._swallow = size
            self._refused = tag + b" " + refusal.encode() + b"\r\n"

    def _refuse_now(self, line: bytes) -> None:
        """The literal of a refused command is swallowed; its rest may announce another one."""
        literal = literal_at_end(line)
        if literal is not None:
            size, sync = literal
            if not sync:
                if size > max(self.service.limits.message_size, 1 << 26):
                    self.conn.write(b"* BYE literal is too big\r\n")
                    self.conn.close()
                    return
                self._swallow = size
                return
        reply, self._refused = self._refused, b""
        self.conn.write(reply)
        self._count_error()

    def _is_message(self, whole: bytes) -> bool:
        """Is the literal that was announced the message of an APPEND, not its mailbox name?"""
        reader = Reader(whole[: whole.rindex(b"{")])
        try:
            _, name = reader.head()
            reader.sp()
            if name != b"APPEND":
                reader.skip(b"REPLACE ")
                reader.sequence_set()
                reader.sp()
            reader.astring()
            reader.sp()
            return True
        except ParseError:
            return False

    def _begin_upload(self, whole: bytes, size: int, last: Upload | None = None) -> str:
        """Take a message; why not, if so. ``last``: the one before it in the same APPEND."""
        if size > self.service.limits.message_size:
            return f"NO [TOOBIG] message is too big: {self.service.limits.message_size} octets is the most"
        if size == 0:
            return "NO message is empty"
        assert self.account is not None
        parts = [*last.before, last] if last is not None else []
        target = self._target(parts[0].command + b"{" if parts else whole)
        try:
            if target is not None:
                check(self.service.store, target, size + sum(one.size for one in parts))
        except OverQuota as error:
            return f"NO [OVERQUOTA] {error}"
        limits, budget, owner = self.service.limits, self.service.budget, self.account.address
        if not budget.announce(owner, size, max(limits.staging_account, limits.message_size)):
            return "NO [LIMIT] too much is on its way in at once, try again later"
        command = whole[: whole.rindex(b"{")]
        binary = command.endswith(b"~")
        reader = ContentReader(False, 1 << 40, False)
        staged = Staged(self.service.staging, budget, owner, size)
        self.upload = Upload(command.removesuffix(b"~"), size, reader, staged, binary, size)
        self._line = b""
        return ""

    def _target(self, whole: bytes) -> Account | None:
        """Who will have the message; None where this session may put none, which the command will say in the words for
        that: how full somebody else's account is is nothing for a stranger. The session's own where it cannot be said
        yet."""
        reader = Reader(whole[: whole.rindex(b"{")])
        try:
            _, name = reader.head()
            reader.sp()
            if name != b"APPEND":
                reader.skip(b"REPLACE ")
                reader.sequence_set()
                reader.sp()
            place = places.locate(self, read_name(self, reader))
        except (ParseError, CannotDo):
            return self.account
        return place.account if place.account == self.account or "i" in place.rights else None

    def _upload(self, data: memoryview, position: int) -> int:
        upload = self.upload
        assert upload is not None
        step = min(upload.left, len(data) - position)
        upload.left -= step
        if upload.binary:  # every octet counts
            if upload.staged.add(bytes(data[position : position + step])):
                self.conn.run_aside(upload.staged.spill())
            return position + step
        upload.reader.feed(data[position : position + step])
        if not upload.left:
            upload.reader.finish()
        if upload.reader.pending() and upload.staged.add(upload.reader.take()):
            self.conn.run_aside(upload.staged.spill())
        return position + step

    def _run_append(self, upload: Upload, rest: bytes) -> None:
        from fastmail.imap.append import finish

        upload.rest = rest
        tag = upload.first.command.partition(b" ")[0]
        if self._rights_stand(tag):
            self._guard(tag, lambda: finish(self, upload))
        else:
            upload.drop()

    def _rights_stand(self, tag: bytes) -> bool:
        """Every command begins here, whatever way it came: the rights on a selected mailbox of somebody else are
        brought up to date. False when it may not be read any more; that is the command's answer."""
        if self.selected is not None and self.selected.account is not self.account:
            try:
                places.refresh(self)
            except CannotDo as error:
                self.fail(tag, error)
                return False
        return True

    # ---------------------------------------------------------------- commands to handlers

    @property
    def state(self) -> int:
        if self.account is None:
            return NEW
        return SELECTED if self.selected is not None else AUTH

    def _dispatch(self, whole: bytes) -> None:
        if not whole:
            return
        reader = Reader(whole)
        try:
            tag, name = reader.head()
        except ParseError as error:
            match = _TAG.match(whole)
            self.bad(match.group(0) if match else b"*", f"{error.expected} expected")
            return
        by_uid = False
        if name == b"UID":
            try:
                reader.sp()
                name = reader.atom().upper()
            except ParseError as error:
                self.bad(tag, f"{error.expected} expected")
                return
            by_uid = True
        command = table.COMMANDS.get(name)
        if command is not None and by_uid and not command.uid:
            command = None
        why = table.refusal(command, self.state)
        if why:
            self.bad(tag, why)
            return
        assert command is not None
        if self.uidonly and command.uid and not by_uid and name != b"EXPUNGE":
            self.bad(tag, "[UIDREQUIRED] sequence numbers are off: use UID " + name.decode())
            return
        handler = command.handler
        if not self._rights_stand(tag):
            return
        self._by_uid = by_uid
        self._expunges = by_uid or not command.numbers
        if name != b"FETCH":
            self.part = None
        self._guard(tag, lambda: handler(self, tag, reader, by_uid))

    def _guard(self, tag: bytes, call: Callable[[], Any]) -> None:
        """Run a handler; its errors become tagged replies."""
        try:
            work = call()
        except Exception as error:
            self.fail(tag, error)
            return
        if work is not None:
            self.conn.run_now(self._guarded(tag, work))

    async def _guarded(self, tag: bytes, work: Any) -> None:
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:
            self.fail(tag, error)

    def fail(self, tag: bytes, error: Exception) -> None:
        if isinstance(error, ParseError):
            self.bad(tag, f"{error.expected} expected at octet {error.offset}")
        elif isinstance(error, ClientError):
            code = next((text for kind, text in CODES if isinstance(error, kind)), "")
            self._say(b"%b NO %b%b\r\n" % (tag, code.encode(), str(error).encode("utf-8", "replace")))
        elif isinstance(error, StorageFull):
            log.event("imap.full", "warning", error=error)
            self._say(tag + b" NO [UNAVAILABLE] not enough storage, try again later\r\n")
        elif isinstance(error, TemporaryError | MailError | OSError):
            log.event("imap.failed", "warning", error=repr(error))
            self._say(tag + b" NO [UNAVAILABLE] not possible now, try again later\r\n")
        else:
            raise error

    # ---------------------------------------------------------------- for handlers

    def bad(self, tag: bytes, text: str) -> None:
        """A tagged BAD; too many end the session."""
        self._say(b"%b BAD %b\r\n" % (tag, text.encode("utf-8", "replace")))
        self._count_error()

    def _say(self, reply: bytes) -> None:
        """A reply to the command that was just read, behind those of STOREs that wait to be run."""
        if self.stores:
            self.stores[-1].append(reply)
        else:
            self.conn.write(reply)

    def _count_error(self) -> None:
        self.errors += 1
        if self.errors >= self.service.limits.errors * (1 if self.account is None else 50):
            count("imap.errors")
            self.conn.blame(2, "too many errors")
            self.conn.write(b"* BYE too many errors\r\n")
            self.conn.close()

    def expunges_too(self) -> None:
        """This command tells of removals though it names messages by number (RFC 8508 3.4)."""
        self._expunges = True

    def learn_modseq(self) -> None:
        """The client gave a CONDSTORE enabling command (RFC 7162 3.1): from here on it is told of MODSEQs, and with the
        first such command how far what it was told of the selected mailbox goes."""
        if not self.condstore:
            self.condstore = True
            if self.selected is not None:
                modseq = min(self.selected.modseq, self.selected.gone_modseq)
                self.conn.write(b"* OK [HIGHESTMODSEQ %d] highest\r\n" % modseq)

    def items(self, with_uid: bool) -> int:
        """What every FETCH response to this client has: bits of _core.fetch."""
        if self.uidonly:
            return UIDONLY_ITEM | (MODSEQ_ITEM if self.condstore else 0)
        return (MODSEQ_ITEM if self.condstore else 0) | (UID_ITEM if with_uid or self.qresync else 0)

    def set_idle(self, state: Any) -> None:
        """Lines go to ``state.line`` until it is None again."""
        self._idle = state

    def is_idling(self, state: Any) -> bool:
        """Do lines still go to ``state``?"""
        return self._idle is state

    def set_sasl(self, state: Any) -> None:
        """Lines go to ``state.line`` until it is None again."""
        self._sasl = state

    def leave(self) -> None:
        """Look at nothing any more: no mailbox is selected, and none is watched."""
        notify.stop(self)
        self.deselect()

    def deselect(self) -> None:
        if self.selected is not None:
            self.service.store.unwatch(self.selected.account, self.selected.key, self._notified)
            self.service.store.views.end(self.selected.key)
        self.selected = None
        self.contexts = []
        self._idle = None

    def attach(self, selected: Selected) -> None:
        """This is the selected mailbox now; its view was begun."""
        if self.conn.closing:  # the client went meanwhile, and ``lost`` will not come again
            self.service.store.views.end(selected.key)
            return
        self.selected = selected
        self.service.store.watch(selected.account, selected.key, self._notified)

    def _notified(self) -> None:
        """Somebody changed the selected mailbox; only IDLE and NOTIFY tell at once."""
        if self.notify is not None and self.selected is not None and self.notify.of_selected() is not None:
            self.notify.stir(self.selected.key)
        elif self._idle is not None:
            self._idle.stirred()

    def finish(self, tag: bytes, text: bytes, own: Any = None, box: Mailbox | None = None) -> Any:
        """Tell what changed in the selected mailbox, as far as the command allows (see imap.table), then the tagged
        reply. May return a coroutine to await. ``box``: its row, when the command has just read it."""
        selected = self.selected
        if selected is None:
            self.conn.write(tag + b" " + text + b"\r\n")
            return None
        if box is None:
            with self.service.store.snapshot(selected.account) as snapshot:
                box = snapshot.mailbox(selected.key)
        behind = self.contexts and box is not None and box.modseq != self.context_modseq
        if is_quiet(selected, box) and not behind:
            self.conn.write(tag + b" " + text + b"\r\n")
            return None
        return self._finish(tag, text, own)

    async def _finish(self, tag: bytes, text: bytes, own: Any) -> None:
        if await self.tell(own):
            self.conn.write(tag + b" " + text + b"\r\n")

    async def tell_now(self, expunges: bool) -> bool:
        """Tell changes outside of any command."""
        self._by_uid, self._expunges = True, expunges
        return await self.tell()

    async def tell(self, own: tuple[UidSet, int] | None = None) -> bool:
        """Queue untagged responses for what changed. False when the mailbox is gone and the session was ended."""
        selected = self.selected
        if selected is None:
            return True
        store = self.service.store
        if selected.account is not self.account:
            try:
                places.refresh(self)
            except CannotDo as error:
                self.conn.write(b"* BYE " + str(error).encode() + b"\r\n")
                self.conn.close()
                return False
        with store.snapshot(selected.account) as snapshot:
            box = snapshot.mailbox(selected.key)
        if box is not None and box.uidnext != selected.uidnext and not self.rev2:
            await self.claim(selected)
        with store.snapshot(selected.account) as snapshot:
            box = snapshot.mailbox(selected.key)
            if box is not None:
                items, vanished = self.items(self._by_uid), self.qresync or self.uidonly
                before = selected.uids
                told = changes(selected, snapshot, box, self._expunges, items, own, vanished, not self.rev2)
                if self.contexts:
                    self.conn.write(removed(self, before, before.minus(selected.uids)))
                self.conn.write(told)
        if box is not None:
            if self.contexts and box.modseq != self.context_modseq:
                await refresh(self, selected)
            return True
        self.conn.write(b"* BYE the selected mailbox was deleted\r\n")
        self.conn.close()
        return False

    async def claim_range(self, account: Account, key: bytes) -> tuple[int, int]:
        """The same for a mailbox by key. Reading goes on when there is no room to write who was told."""
        try:
            return await self.service.store.claim_recent(account, key)
        except TemporaryError as error:
            log.event("imap.recent", "warning", error=error)
            return 0, 0

    async def look(self, account: Account, key: bytes) -> None:
        """Take in what other programs did, as far as there is room to write it down."""
        try:
            await self.service.store.sync(account, key)
        except TemporaryError as error:
            log.event("imap.sync", "warning", error=error)

    async def claim(self, selected: Selected) -> None:
        """Take \\Recent for what is new, unless the mailbox is open for reading only."""
        if not selected.readonly:
            first, end = await self.claim_range(selected.account, selected.key)
            if first < end:
                selected.recent = selected.recent.plus(UidSet.of_ranges((first, end - 1)))
