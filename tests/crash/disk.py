"""A disk as power loss leaves it, made from the system calls of a server: strace's log in, directories out.

The model: what a file holds, and which names a directory has, is durable when a sync of the file, or of the directory,
has returned, for everything that was done before that sync began; writes to descriptors opened with O_DSYNC are durable
when they return, whatever else has that file open. Of everything else the disk may have kept any part: any subset of the
writes, each torn where pages of 4 KB begin, and some of these at sectors of 512 octets; and of the names either any
subset (``strict``) or all up to some moment (as a journal does). How much is kept is drawn for each file: of one nothing
may have reached the disk, of another all, of a third all but a page. A rename is kept whole or not at all. Promise: an
image never lacks what was synced; calls under way at the moment of the loss count as not synced.
"""

import codecs
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE, SECTOR = 4096, 512
OLD = 1_000_000_000  # when directories changed: nobody waits whether somebody is still making them
SHARES = (0.0, 0.0, 0.03, 0.5, 0.97, 1.0, 1.0)  # of what was not synced, that is kept of a file
TORN = 0.1  # of the pages that are partly kept, those torn inside
CALLS = (
    "openat,openat2,lseek,utimensat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,syncfs,sendto,sendmsg,clone,clone3,fork,vfork"
)
NAMING = (
    "openat", "openat2", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "mkdir",
    "mkdirat", "utimensat",
)  # fmt: skip
FORKS = ("clone", "clone3", "fork", "vfork")
LINE = re.compile(rb"^(\d+) +(.*)$", re.S)
FD = rb"(-?\d+|AT_FDCWD)(?:<((?:[^>\\]|\\.)*)>)?(\(deleted\))?"
STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"')
RESULT = re.compile(rb"\) += (-?\d+)(?:<((?:[^>\\]|\\.)*)>)?[^=]*$", re.S)


def _text(found: bytes) -> bytes:
    return codecs.escape_decode(found)[0]  # type: ignore[attr-defined, no-any-return]


@dataclass(slots=True)
class Call:
    """One system call that succeeded. ``begun``: how many had ended when it began; ``process``: who called."""

    name: str
    text: bytes
    result: int
    begun: int
    opened: bytes = b""
    process: int = 0


def processes(log: Path) -> dict[int, int]:
    """The process of each thread that another one made; a thread that is not there is a process of its own."""
    made: dict[int, int] = {}
    for call in _ended(log):
        if call.name in FORKS and b"CLONE_THREAD" in call.text:
            made[call.result] = call.process
    for thread in made:
        while made[thread] in made:
            made[thread] = made[made[thread]]
    return made


def calls(log: Path) -> Iterator[Call]:
    """In the order in which they ended, without those that make threads and processes."""
    made = processes(log)
    for call in _ended(log):
        if call.name not in FORKS:
            call.process = made.get(call.process, call.process)
            yield call


def _ended(log: Path) -> Iterator[Call]:
    """All of them; ``process`` is the thread that called, and ``begun`` does not count those that make threads."""
    begun: dict[bytes, tuple[bytes, int]] = {}
    ended = 0
    with open(log, "rb") as file:
        for raw in file:
            line = LINE.match(raw.rstrip(b"\n"))
            if line is None:
                continue
            thread, text = line.groups()
            start = ended
            if text.endswith(b"<unfinished ...>"):
                begun[thread] = text.removesuffix(b"<unfinished ...>"), ended
                continue
            if text.startswith(b"<... "):
                head, start = begun.pop(thread, (b"", ended))
                text = head + text.partition(b" resumed>")[2]
            result = RESULT.search(text)
            name = text.partition(b"(")[0]
            if result is None or not name.isalnum() or int(result.group(1)) < 0:
                continue
            ended += name.decode() not in FORKS
            yield Call(
                name.decode(),
                text[len(name) + 1 : result.start()],
                int(result.group(1)),
                start,
                result.group(2) or b"",
                int(thread),
            )


@dataclass(slots=True)
class Write:
    """Octets at an offset; with ``size`` the file is cut or grown to it instead."""

    when: int
    at: int
    data: bytes
    size: int = -1


@dataclass(slots=True)
class Inode:
    """A file, or (``names``) a directory: what is durable, and what is not yet."""

    directory: bool = False
    data: bytearray = field(default_factory=bytearray)
    writes: list[Write] = field(default_factory=list)
    names: "dict[str, Inode]" = field(default_factory=dict)
    end: int = 0  # size as the program sees it
    mtime: int = -1  # as somebody set it


@dataclass(slots=True, eq=False)
class Naming:
    """A name given (``inode``) or taken away; ``gives``: the name that a rename gives, for the one it takes."""

    when: int
    parent: Inode
    name: str
    inode: Inode | None
    gives: "Naming | None" = None


class Disk:
    """What was under ``root`` when recording began, and what was done to it."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(os.path.realpath(root))
        self._known: dict[int, Inode] = {}  # by number
        self.top = self._read(root)
        self.names: dict[bytes, Inode] = {}  # as the program sees them, by path
        self.pending: list[Naming] = []
        self.now = 0
        self.durable: set[tuple[int, int]] = set()  # (process, descriptor): opened with O_DSYNC
        self.at: dict[tuple[int, int], int] = {}  # (process, descriptor): where the next write() goes
        self._list(self.root, self.top)

    def _read(self, path: Path) -> Inode:
        if path.is_dir():
            return Inode(True, names={one.name: self._read(one) for one in path.iterdir() if not one.is_socket()})
        status = path.stat()
        if status.st_ino not in self._known:
            data = path.read_bytes()
            self._known[status.st_ino] = Inode(data=bytearray(data), end=len(data), mtime=int(status.st_mtime))
        return self._known[status.st_ino]

    def _list(self, path: bytes, inode: Inode) -> None:
        self.names[path] = inode
        for name, one in inode.names.items():
            self._list(path + b"/" + os.fsencode(name), one)

    # ---------------------------------------------------------------- what is done

    def apply(self, call: Call) -> None:
        """One more call has ended."""
        self.now += 1
        name = call.name
        paths = self._paths(call)
        if name in ("openat", "openat2"):
            self._open(paths[0], call)
        elif name == "lseek":
            self.at[_descriptor(call)] = call.result
        elif name == "utimensat":
            inode = self.names.get(paths[0]) if paths else self._by_descriptor(call)
            times = re.findall(rb"tv_sec=(\d+)", call.text)
            if inode is not None and len(times) == 2:
                inode.mtime = int(times[1])
        elif name in ("write", "pwrite64", "writev", "pwritev", "pwritev2"):
            self._write(call)
        elif name in ("ftruncate", "fallocate"):
            self._resize(call)
        elif name in ("fsync", "fdatasync"):
            inode = self._by_descriptor(call)
            if inode is not None:
                self._sync(inode, call.begun)
        elif name == "syncfs":
            for inode in self.names.values():
                self._sync(inode, call.begun)
        elif name.startswith("rename"):
            self._rename(paths[0], paths[1])
        elif name.startswith("link"):
            self._give(paths[1], self.names.get(paths[0]))
        elif name in ("unlink", "unlinkat", "rmdir"):
            self._take(paths[0])
        elif name.startswith("mkdir"):
            self._give(paths[0], Inode(True))

    def _inside(self, path: bytes) -> bool:
        return path.startswith(self.root + b"/")

    def _paths(self, call: Call) -> list[bytes]:
        """The paths among the arguments, whole."""
        if call.name not in NAMING:
            return []
        out = []
        for match in re.finditer(rb"(?:" + FD + rb', )?"((?:[^"\\]|\\.)*)"', call.text):
            path = _text(match.group(4))
            if not path.startswith(b"/"):
                path = _text(match.group(2) or b"") + b"/" + path
            out.append(os.path.normpath(path))
        return out

    def _by_descriptor(self, call: Call) -> Inode | None:
        found = re.match(FD, call.text)
        if found is None or found.group(3) or not found.group(2):
            return None
        return self.names.get(_text(found.group(2)))

    def _parent(self, path: bytes) -> Inode | None:
        return self.names.get(os.path.dirname(path))

    def _give(self, path: bytes, inode: Inode | None) -> Naming | None:
        parent = self._parent(path)
        if parent is None or inode is None or not self._inside(path):
            return None
        self.names[path] = inode
        one = Naming(self.now, parent, os.fsdecode(os.path.basename(path)), inode)
        self.pending.append(one)
        return one

    def _take(self, path: bytes) -> None:
        parent = self._parent(path)
        if self.names.pop(path, None) is not None and parent is not None:
            self.pending.append(Naming(self.now, parent, os.fsdecode(os.path.basename(path)), None))

    def _rename(self, old: bytes, new: bytes) -> None:
        inode, parent = self.names.get(old), self._parent(old)
        if inode is None or parent is None:
            return
        moved = {new + path[len(old) :]: one for path, one in self.names.items() if path.startswith(old + b"/")}
        for path in [path for path in self.names if path == old or path.startswith(old + b"/")]:
            del self.names[path]
        given = self._give(new, inode)
        self.names.update(moved)
        self.pending.append(Naming(self.now, parent, os.fsdecode(os.path.basename(old)), None, given))

    def _open(self, path: bytes, call: Call) -> None:
        opened = call.process, call.result
        self.durable.discard(opened)
        if not self._inside(path):
            return
        inode = self.names.get(path)
        if inode is None:
            if b"O_CREAT" not in call.text:
                return
            inode = Inode()
            self._give(path, inode)
        if inode.directory:
            return
        self.at[opened] = inode.end if b"O_APPEND" in call.text else 0
        if b"O_DSYNC" in call.text or b"O_SYNC" in call.text:
            self.durable.add(opened)
        if b"O_TRUNC" in call.text:
            inode.writes.append(Write(self.now, 0, b"", 0))
            inode.end = 0

    def _write(self, call: Call) -> None:
        inode = self._by_descriptor(call)
        if inode is None or inode.directory:
            return
        data = b"".join(_text(one) for one in STRING.findall(call.text))[: call.result]
        opened = _descriptor(call)
        at = self.at.get(opened, 0)
        if call.name.startswith("p"):
            at = int(call.text.rsplit(b",", 2)[1 if call.name == "pwritev2" else 2])  # that one has flags last
        else:
            self.at[opened] = at + len(data)
        inode.writes.append(Write(self.now, at, data))
        inode.end = max(inode.end, at + len(data))
        if opened in self.durable:  # LMDB's meta page
            self._sync(inode, call.begun, only=inode.writes[-1])

    def _resize(self, call: Call) -> None:
        inode = self._by_descriptor(call)
        if inode is None:
            return
        numbers = [int(one) for one in re.findall(rb", (\d+)", call.text)]
        size = numbers[0] if call.name == "ftruncate" else max(inode.end, sum(numbers[-2:]))
        inode.writes.append(Write(self.now, 0, b"", size))
        inode.end = size

    def _sync(self, inode: Inode, begun: int, only: Write | None = None) -> None:
        """What was done before ``begun`` calls had ended is durable."""
        if inode.directory:
            # with what a rename takes from this directory, what it gives to another one
            given = {id(one.gives) for one in self.pending if one.parent is inode and one.gives is not None}
            synced = [one for one in self.pending if self._belongs(one, inode) or id(one) in given]
            for one in [one for one in synced if one.when <= begun]:
                _name(one.parent.names, one)
                at = self.pending.index(one)  # what was done to the name before is over
                before = [old for old in self.pending[:at] if old.parent is not one.parent or old.name != one.name]
                self.pending = before + self.pending[at + 1 :]
            return
        kept = []
        for write in inode.writes:
            if write is only or (only is None and write.when <= begun):
                _put(inode.data, write)
            else:
                kept.append(write)
        inode.writes = kept

    @staticmethod
    def _belongs(one: Naming, directory: Inode) -> bool:
        """Is it this directory's, or the other half of a rename into it?"""
        return one.parent is directory or (one.gives is not None and one.gives.parent is directory)

    # ---------------------------------------------------------------- what is left

    def image(self, where: Path, rng: random.Random, strict: bool) -> None:
        """Write a disk that the loss of power at this moment may leave to ``where``, which is emptied first."""
        shutil.rmtree(where, ignore_errors=True)
        share = rng.choice([0.0, 0.5, 1.0])
        if strict:
            chosen = {id(one) for one in self.pending if rng.random() < share}
        else:
            chosen = {id(one) for one in self.pending[: rng.randint(0, len(self.pending))]}
        kept: dict[int, dict[str, Inode]] = {}
        for one in self.pending:
            whole = id(one) in chosen if one.gives is None else id(one.gives) in chosen or one.gives not in self.pending
            if whole:
                _name(kept.setdefault(id(one.parent), dict(one.parent.names)), one)
        self._places: dict[int, Path] = {}
        self._write_out(self.top, where, kept, rng)

    def _write_out(self, inode: Inode, where: Path, kept: dict[int, dict[str, Inode]], rng: random.Random) -> None:
        if inode.directory:
            where.mkdir(mode=0o700)
            for name, one in kept.get(id(inode), inode.names).items():
                self._write_out(one, where / name, kept, rng)
            os.utime(where, (OLD, OLD))
            return
        if id(inode) in self._places:
            os.link(self._places[id(inode)], where)
            return
        self._places[id(inode)] = where
        data = bytearray(inode.data)
        share = rng.choice(SHARES)
        for write in inode.writes:
            if write.size >= 0:
                if rng.random() < share:
                    _put(data, write)
                continue
            for part in _parts(write, PAGE):
                if 0 < share < 1 and rng.random() < TORN:
                    for sector in _parts(part, SECTOR):
                        if rng.random() < 0.5:
                            _put(data, sector)
                elif rng.random() < share:
                    _put(data, part)
        where.write_bytes(data)
        where.chmod(0o600)
        if inode.mtime >= 0:
            os.utime(where, (inode.mtime, inode.mtime))


def _descriptor(call: Call) -> tuple[int, int]:
    """(process, descriptor) that a call is about."""
    found = re.match(rb"\d+", call.text)
    return call.process, int(found.group()) if found is not None else -1


def _parts(write: Write, size: int) -> Iterator[Write]:
    """A write, cut where pages or sectors of the file begin."""
    at, end = write.at, write.at + len(write.data)
    while at < end:
        upto = min(end, (at // size + 1) * size)
        yield Write(write.when, at, write.data[at - write.at : upto - write.at])
        at = upto


def _put(data: bytearray, write: Write) -> None:
    if write.size >= 0:
        del data[write.size :]
        data.extend(bytes(write.size - len(data)))
        return
    if len(data) < write.at:
        data.extend(bytes(write.at - len(data)))
    data[write.at : write.at + len(write.data)] = write.data


def _name(names: dict[str, Inode], one: Naming) -> None:
    if one.inode is None:
        names.pop(one.name, None)
    else:
        names[one.name] = one.inode
