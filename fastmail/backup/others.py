"""What a backup has beside mail and accounts: sums of reports, what the classifier was taught, bans, the trace of
messages, and the quarantine.

A run has a file ``others.jsonl.gz``. Its lines:

    {"environment": name, "layout": n, "owners": {"7": "me@example.org", ...}}      an LMDB environment begins
    {"environment": name, "table": name, "object": digest, "rows": n, "octets": n}  some of its rows
    {"quarantine": id, "at": seconds, "object": digest, "octets": n}                a message that was kept back

An object with rows is a MessagePack array of pairs of key and value. Where one ends depends on the keys alone (EDGE),
so what is added in one place changes no other object, and a run costs what is new.

Environments are saved as of one commit each, which a read transaction holds: nobody waits. They come back only where
there is nothing yet, each in one transaction: counts that belong together are never mixed, and a restore that is cut
short, at whatever moment, leaves an environment whole or empty, so that it can be repeated. Accounts have other numbers
where they are restored; rows of the classifier follow their addresses. An environment of a layout that this version
does not have stays out.
"""

import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fastmail.app import environments
from fastmail.app.assembly import Assembly
from fastmail.app.derived import ban_rules
from fastmail.app.environments import BANS, FEEDBACK, LEARNED, ROWS, TRACE, Kind
from fastmail.backup.vault import FORM, OTHERS, Vault
from fastmail.delivery.quarantine import Quarantine
from fastmail.durable.env import Environment
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CannotDo, CorruptData, MailError, in_words
from fastmail.net.bans import Bans
from fastmail.policy.learning.counts import EVERYBODY, Learned

EDGE = 512  # rows of an object, on average: one whose key has a checksum that this divides ends it
MOST_ROWS, MOST_OCTETS = 8 * EDGE, 4 << 20  # of an object
OWNER = struct.Struct(">Q")  # what rows of the classifier begin with
META = {LEARNED: (b"word.key",)}  # rows of the table meta that belong to the others: without them these tell nothing
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode


@dataclass(slots=True)
class Part:
    """One environment, or the quarantine, in a backup or out of it. ``there``: nothing was brought back, because there
    is something already."""

    name: str
    rows: int = 0
    new: int = 0
    octets: int = 0
    there: bool = False
    problems: list[str] = field(default_factory=list)


@contextmanager
def opened(assembly: Assembly, name: str) -> Iterator[Environment]:
    """An environment whose rows a backup has. One that this process has open is used: LMDB allows no second one."""
    if name == FEEDBACK:
        yield assembly.reporting.days.env
    elif name == TRACE:
        yield assembly.history.env
    elif name == LEARNED:
        learned = assembly.learned or Learned(assembly.config.server.data_dir)
        try:
            yield learned.env
        finally:
            if assembly.learned is None:
                learned.close()
    elif name == BANS:
        bans = Bans(assembly.config.server.data_dir, ban_rules(assembly.config))
        try:
            yield bans.env
        finally:
            bans.close()
    else:
        raise AssertionError(name)


def saved_kinds(assembly: Assembly) -> list[Kind]:
    """Environments whose rows a backup has."""
    return [kind for kind in environments.kinds(assembly.config) if kind.backup == ROWS]


# ---------------------------------------------------------------- out


def save(vault: Vault, place: str, assembly: Assembly) -> list[Part]:
    """Write the file of a run. Waits for the disk."""
    out = []
    with vault.other_rows(place) as file:

        def tell(row: Mapping[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")

        for kind in saved_kinds(assembly):
            if not environments.is_there(assembly.config, kind):
                continue
            part = Part(kind.name)
            out.append(part)
            try:
                with opened(assembly, kind.name) as env:
                    _save(vault, env, kind, assembly, part, tell)
            except (MailError, OSError) as error:
                part.problems.append(in_words(error))
        part = Part(environments.QUARANTINE)
        _save_quarantine(vault, assembly.quarantine, part, tell)
        if part.rows or part.problems:
            out.append(part)
    return out


def _save(
    vault: Vault,
    env: Environment,
    kind: Kind,
    assembly: Assembly,
    part: Part,
    tell: Callable[[Mapping[str, Any]], None],
) -> None:
    owners = {}
    if kind.name == LEARNED:
        owners = {str(one.id): one.address for one in assembly.directory.accounts()}
    tell({"environment": kind.name, "layout": kind.layout, "owners": owners})
    with env.read() as txn:
        for table in kind.tables:
            for rows in _pieces(txn.cursor(db=env.db[table]).iternext()):
                _keep(vault, kind.name, table, rows, part, tell)
        meta = [(key, bytes(found)) for key in META.get(kind.name, ()) if (found := txn.get(key, db=env.db["meta"]))]
        if meta:
            _keep(vault, kind.name, "meta", meta, part, tell)


def _pieces(rows: Iterator[tuple[Any, Any]]) -> Iterator[list[tuple[bytes, bytes]]]:
    out: list[tuple[bytes, bytes]] = []
    octets = 0
    for key, value in rows:
        out.append((bytes(key), bytes(value)))
        octets += len(key) + len(value)
        if not zlib.crc32(out[-1][0]) % EDGE or len(out) >= MOST_ROWS or octets >= MOST_OCTETS:
            yield out
            out, octets = [], 0
    if out:
        yield out


def _keep(
    vault: Vault,
    name: str,
    table: str,
    rows: list[tuple[bytes, bytes]],
    part: Part,
    tell: Callable[[Mapping[str, Any]], None],
) -> None:
    content = _pack(rows)
    digest, new = vault.keep(content)
    part.rows += len(rows)
    part.new += new
    part.octets += len(content) * new
    tell({"environment": name, "table": table, "object": digest, "rows": len(rows), "octets": len(content)})


def _save_quarantine(
    vault: Vault, quarantine: Quarantine, part: Part, tell: Callable[[Mapping[str, Any]], None]
) -> None:
    for kept in quarantine.each():
        try:
            content = quarantine.raw(kept.id)
        except CannotDo:
            continue  # released meanwhile
        except MailError as error:
            part.problems.append(str(error))
            continue
        digest, new = vault.keep(content)
        part.rows += 1
        part.new += new
        part.octets += len(content) * new
        tell({"quarantine": kept.id, "at": kept.at, "object": digest, "octets": len(content)})


# ---------------------------------------------------------------- back


class Line(msgspec.Struct):
    """A line of the file, of any kind."""

    environment: str = ""
    layout: int = 0
    owners: dict[str, str] = {}
    table: str = ""
    object: str = ""
    rows: int = 0
    octets: int = 0
    quarantine: str = ""
    at: int = 0


def lines(vault: Vault, run: str = "") -> Iterator[Line]:
    """What a run has. CorruptData for what this program did not write; nothing for a run of a version that saved
    nothing of this kind."""
    for row in vault.others(run):
        try:
            yield msgspec.convert(row, Line)
        except msgspec.ValidationError as error:
            raise CorruptData(f"{OTHERS}: {error}") from None


def check(vault: Vault, run: str) -> None:
    """CorruptData where a line is not what a backup has; before anything is changed."""
    for line in lines(vault, run):
        if (line.object and not FORM.fullmatch(line.object)) or bool(line.environment) == bool(line.quarantine):
            raise CorruptData(f"{OTHERS}: a line is damaged. Nothing was restored: take an earlier backup (--run)")


def restore(vault: Vault, run: str, assembly: Assembly) -> list[Part]:
    """Bring back what is not there. After the accounts. Waits for the disk."""
    parts: dict[str, Part] = {}
    kinds = {kind.name: kind for kind in saved_kinds(assembly)}
    held: list[Line] = []
    groups: dict[str, list[Line]] = {}
    for line in lines(vault, run):
        if line.quarantine:
            held.append(line)
        else:
            groups.setdefault(line.environment, []).append(line)
    for name, some in groups.items():
        part = parts[name] = Part(name)
        kind = kinds.get(name)
        if kind is None or some[0].layout != kind.layout:
            part.problems.append("it is of another version of fastmail, and was left out")
            continue
        try:
            with opened(assembly, name) as env:
                _restore(vault, env, kind, some, assembly, part)
        except (MailError, OSError) as error:
            part.problems.append(in_words(error))
    if held:
        parts[environments.QUARANTINE] = _restore_quarantine(vault, assembly.quarantine, held)
    return list(parts.values())


def _restore(vault: Vault, env: Environment, kind: Kind, some: list[Line], assembly: Assembly, part: Part) -> None:
    numbers = _numbers(some[0].owners, assembly) if kind.name == LEARNED else None
    try:
        with env.write() as txn:  # LMDB writes pages to the disk before the commit where there are too many for memory
            if any(txn.stat(env.db[table])["entries"] for table in kind.tables):
                part.there = True
                return
            _bring(vault, env, kind, some, numbers, part, txn)
    except BaseException:
        part.rows = 0
        raise


def _bring(
    vault: Vault, env: Environment, kind: Kind, some: list[Line], numbers: dict[bytes, int] | None, part: Part, txn: Txn
) -> None:
    for line in some:
        if not line.object:
            continue
        if line.table not in (*kind.tables, "meta"):
            raise CorruptData(f"{kind.name} has no table {line.table[:40]!r}")
        try:
            rows = _unpack(vault.read(line.object))
        except msgspec.DecodeError:
            raise CorruptData(f"object {line.object} has no rows") from None
        if line.table == "meta":
            rows = [row for row in rows if row[0] in META.get(kind.name, ())]
        elif numbers is not None:
            rows = [(OWNER.pack(numbers[old]) + key[8:], value) for key, value in rows if (old := key[:8]) in numbers]
        part.rows += len(rows)
        _put(txn, env.db[line.table], rows)


def _put(txn: Txn, table: Any, rows: list[tuple[bytes, bytes]]) -> None:
    for key, value in rows:
        txn.put(key, value, db=table)


def _numbers(owners: Mapping[str, str], assembly: Assembly) -> dict[bytes, int]:
    """{what rows of an owner began with: its number here}, of accounts that are there, and of everybody."""
    out = {OWNER.pack(EVERYBODY): EVERYBODY}
    for number, address in owners.items():
        found = assembly.directory.account(address)
        if found is not None and number.isdecimal() and len(number) < 20:
            out[OWNER.pack(int(number))] = found.id
    return out


def _restore_quarantine(vault: Vault, quarantine: Quarantine, held: list[Line]) -> Part:
    part = Part(environments.QUARANTINE)
    for line in held:
        try:
            if quarantine.put_back(line.quarantine, vault.read(line.object), min(line.at, int(time.time()))):
                part.rows += 1
            else:
                part.there = True
        except (MailError, CannotDo, OSError) as error:
            part.problems.append(f"{line.quarantine[:40]}: {in_words(error)}")
    return part


def faults(vault: Vault, run: str) -> list[str]:
    """Read every object of them; what is damaged or missing."""
    out: list[str] = []
    try:
        for line in lines(vault, run):
            if line.object:
                try:
                    vault.read(line.object)
                except CorruptData as error:
                    out.append(f"{line.environment or environments.QUARANTINE}: {error}")
    except CorruptData as error:
        out.append(str(error))
    return out
