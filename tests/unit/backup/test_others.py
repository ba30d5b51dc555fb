"""fastmail.backup.others: what is neither mail nor accounts comes back as it was, and only where there is nothing."""

import asyncio
import gzip
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.app import environments
from fastmail.app.assembly import Assembly, beside
from fastmail.backup import others
from fastmail.backup.vault import OTHERS, Vault
from fastmail.cli.common import read_config
from fastmail.delivery.quarantine import Kept
from fastmail.feedback.days import SEEN, TOLD, More
from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import Rcpt
from fastmail.net.bans import Bans
from fastmail.policy.learning.counts import EVERYBODY, SPAM, Learned, Lesson
from tests.unit.cli.place import USER, Place
from tests.unit.policy.learning.test_counts import message

NAMES = {"bans", "trace", "learned", "feedback"}
CONTENT = b"Subject: bad\n\nbody\n"


def within(place: Place, work: Callable[[Assembly], Any]) -> Any:
    async def main() -> Any:
        async with beside(read_config(str(place.config))) as assembly:
            return await asyncio.to_thread(work, assembly)

    return asyncio.run(main())


def fill(assembly: Assembly) -> None:
    data = assembly.config.server.data_dir
    account = assembly.directory.account(USER)
    assert account is not None
    assembly.reporting.days.add(SEEN, {(20_000, "example.org"): More({b"row": 3}, about=b"policy")})
    assembly.reporting.days.add(
        TOLD, {(20_000, f"d{n}.test"): More({b"%d" % k: 1 for k in range(50)}) for n in range(30)}
    )
    learned = Learned(data)
    learned.teach([Lesson(owner, message("cheap", "pills"), SPAM) for owner in (account.id, EVERYBODY, 4711)])
    learned.close()
    bans = Bans(data, others.ban_rules(assembly.config))
    bans.add("192.0.2.0/24", 10_000.0, "by hand")
    bans.close()
    assembly.history._write([(time.time_ns(), "ID1", "accepted", {"sender": "a@b.test"}, ("ID1", "a@b.test"))])
    kept = Kept("1ABC", int(time.time()) - 1000, "a@b.test", (Rcpt(USER),))
    assembly.quarantine.keep(kept, CONTENT)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(str(tmp_path / "vault"))


@pytest.fixture
def full(place: Place) -> Place:
    within(place, fill)
    return place


def saved(place: Place, vault: Vault) -> dict[str, others.Part]:
    with vault.locked():
        run = vault.begin()
        parts = within(place, lambda assembly: others.save(vault, run, assembly))
        (Path(run) / "directory.json").write_text(json.dumps({"version": 1, "domains": [], "accounts": []}))
        vault.finish(run)
    return {part.name: part for part in parts}


def rows(assembly: Assembly) -> dict[str, Any]:
    """All that is there."""
    out: dict[str, Any] = {}
    for kind in others.saved_kinds(assembly):
        with others.opened(assembly, kind.name) as env, env.read() as txn:
            for table in kind.tables:
                out[f"{kind.name} {table}"] = [(bytes(k), bytes(v)) for k, v in txn.cursor(db=env.db[table]).iternext()]
    out["quarantine"] = [assembly.quarantine.load(one.id) for one in assembly.quarantine.each()]
    return out


def emptied(place: Place) -> None:
    for name in (*NAMES, "quarantine"):
        shutil.rmtree(place.base / "data" / name, ignore_errors=True)


def test_all_of_it_comes_back(full: Place, vault: Vault) -> None:
    parts = saved(full, vault)
    assert set(parts) == {*NAMES, "quarantine"} and not any(part.problems for part in parts.values())
    assert parts["feedback"].rows == 2 + 30 * 51 and parts["quarantine"].rows == 1
    assert others.faults(vault, "") == []
    before = within(full, rows)
    emptied(full)
    brought = {part.name: part for part in within(full, lambda assembly: others.restore(vault, "", assembly))}
    assert {name: part.rows for name, part in brought.items() if name != "learned"} == {
        name: part.rows for name, part in parts.items() if name != "learned"
    }
    after = within(full, rows)
    gone = [key for key, _ in before["learned owner"] if key not in dict(after["learned owner"])]
    assert gone == [(4711).to_bytes(8, "big")], "whose account is no more is forgotten"
    assert {k: v for k, v in before.items() if "learned" not in k} == {
        k: v for k, v in after.items() if "learned" not in k
    }
    assert [row for row in before["learned word"] if row[0][:8] != gone[0]] == after["learned word"]


def test_what_was_taught_follows_its_account(full: Place, vault: Vault) -> None:
    """Accounts have other numbers where they are restored, and the words their key."""
    saved(full, vault)
    emptied(full)
    full.run("account", "add", "new@example.test", "--password-stdin", stdin="x\n")
    full.run("account", "remove", USER)
    full.run("account", "add", USER, "--password-stdin", stdin="x\n")
    within(full, lambda assembly: others.restore(vault, "", assembly))

    def taught(assembly: Assembly) -> tuple[bool, list[int]]:
        learned = Learned(assembly.config.server.data_dir)
        account = assembly.directory.account(USER)
        assert account is not None and account.id > 1
        known = learned.teach([Lesson(account.id, message("cheap", "pills"), SPAM)]) == ["known"]
        owners = learned.owners()
        learned.close()
        return known, owners == [EVERYBODY, account.id]  # type: ignore[return-value]

    assert within(full, taught) == (True, True)


def test_what_is_there_is_left_as_it_is(full: Place, vault: Vault) -> None:
    saved(full, vault)
    before = within(full, rows)
    parts = within(full, lambda assembly: others.restore(vault, "", assembly))
    assert [part for part in parts if part.problems or not part.there] == [] and within(full, rows) == before


def test_the_next_run_costs_what_is_new(full: Place, vault: Vault) -> None:
    first = saved(full, vault)
    again = saved(full, vault)
    assert all(part.new == 0 and part.octets == 0 for part in again.values())
    within(full, lambda assembly: assembly.reporting.days.add(TOLD, {(20_001, "late.test"): More({b"row": 1})}))
    third = saved(full, vault)
    assert third["feedback"].new <= 2 < third["feedback"].rows and first["feedback"].new >= 2
    with vault.locked():
        vault.prune(1)
    assert others.faults(vault, "") == [], "objects that the last run names stay"


def test_a_message_keeps_its_days(full: Place, vault: Vault) -> None:
    saved(full, vault)
    emptied(full)
    within(full, lambda assembly: others.restore(vault, "", assembly))
    (file,) = (full.base / "data" / "quarantine").iterdir()
    assert 900 < time.time() - file.stat().st_mtime < 2000 and file.stat().st_mode & 0o777 == 0o600


def test_nothing_there_saves_nothing(place: Place, vault: Vault) -> None:
    assert saved(place, vault) == {} and within(place, lambda assembly: others.restore(vault, "", assembly)) == []
    assert not NAMES & {path.name for path in (place.base / "data").iterdir()}, "nothing was made"


def changed(vault: Vault, change: Callable[[dict[str, Any]], object]) -> None:
    path = Path(vault.run_path()) / OTHERS
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    for line in lines:
        change(line)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.update(object="../../x") if "object" in line else None,
        lambda line: line.update(rows="many"),
        lambda line: line.update(quarantine="1ABC"),
        lambda line: line.update(environment=7),
    ],
)
def test_nothing_is_believed(full: Place, vault: Vault, change: Callable[[dict[str, Any]], object]) -> None:
    saved(full, vault)
    changed(vault, change)
    with pytest.raises(CorruptData):
        others.check(vault, "")


def test_damage_is_named_and_the_rest_comes_back(full: Place, vault: Vault) -> None:
    saved(full, vault)
    emptied(full)

    def other(line: dict[str, Any]) -> None:
        if line.get("environment") == "trace":
            line["layout"] = 99
        if line.get("environment") == "bans" and "table" in line:
            line["table"] = "index"
        if "quarantine" in line:
            line["quarantine"] = "../escaped"

    changed(vault, other)
    parts = {part.name: part for part in within(full, lambda assembly: others.restore(vault, "", assembly))}
    assert {name for name, part in parts.items() if part.problems} == {"trace", "bans", "quarantine"}
    assert parts["feedback"].rows > 1000 and not (full.base / "data" / "escaped").exists()
    digest = next(line.object for line in others.lines(vault) if line.environment == "feedback" and line.object)
    Path(vault.object_path(digest)).write_bytes(b"cut")
    assert others.faults(vault, "") == [f"feedback: object {digest} is damaged"]


def test_a_damaged_object_leaves_nothing_of_its_environment(full: Place, vault: Vault) -> None:
    """So another run can be restored: a half would be left as it is, as what was there already."""
    saved(full, vault)
    emptied(full)
    objects = [line.object for line in others.lines(vault) if line.environment == "feedback" and line.object]
    assert len(objects) > 1
    path = Path(vault.object_path(objects[-1]))
    content = path.read_bytes()
    path.write_bytes(b"cut")

    def again() -> others.Part:
        parts = within(full, lambda assembly: others.restore(vault, "", assembly))
        return next(part for part in parts if part.name == "feedback")

    part = again()
    assert part.problems and not part.rows and not part.there
    path.write_bytes(content)
    part = again()
    assert not part.problems and part.rows > 1000 and not part.there


def test_the_commands(full: Place, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    found = {row["account"]: row for row in full.rows("backup", vault)}
    assert {f"server: {name}" for name in (*NAMES, "quarantine")} | {USER} == set(found)
    assert full.run("backup", vault, "--verify") == "all is well\n"
    full.run("account", "remove", USER, "--delete-mail")
    emptied(full)
    back = {row["account"]: row for row in full.rows("restore", vault) if row["account"].startswith("server")}
    assert set(back) == {f"server: {name}" for name in (*NAMES, "quarantine")}
    assert back["server: feedback"]["messages"] == found["server: feedback"]["messages"]
    assert [row["id"] for row in full.rows("quarantine", "list")] == ["1ABC"]


def test_every_kind_can_be_opened(place: Place) -> None:
    def names(assembly: Assembly) -> list[str]:
        out = []
        for kind in others.saved_kinds(assembly):
            with others.opened(assembly, kind.name) as env:
                assert set(kind.tables) <= set(env.db)
                out.append(kind.name)
        return out

    assert (
        set(within(place, names))
        == NAMES
        == {
            kind.name for kind in environments.kinds(read_config(str(place.config))) if kind.backup == environments.ROWS
        }
    )


def killed_at(place: Place, vault: Vault, step: int) -> bool:
    """Restore in a process of its own that is killed when so many pieces were written; False if there were fewer."""
    pid = os.fork()
    if pid == 0:
        real, left = others._put, [step]

        def put(*given: Any) -> None:
            real(*given)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        others._put = put  # type: ignore[assignment]
        code = 1
        try:
            within(place, lambda assembly: others.restore(vault, "", assembly))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_restore_that_is_killed_leaves_each_part_whole_or_empty(full: Place, vault: Vault) -> None:
    """At every step; and then it is done again, until all of it is there."""
    saved(full, vault)
    before = within(full, rows)
    emptied(full)
    within(full, lambda assembly: others.restore(vault, "", assembly))
    whole = within(full, rows)
    assert whole["feedback told"] == before["feedback told"]
    emptied(full)
    step = 1
    while killed_at(full, vault, step):
        now = within(full, rows)
        for name in NAMES:
            mine = {table: found for table, found in now.items() if table.startswith(f"{name} ")}
            assert not any(mine.values()) or mine == {table: whole[table] for table in mine}, (step, name)
        emptied(full)
        step += 1
    assert step > len(NAMES) and within(full, rows) == whole
    emptied(full)
    assert killed_at(full, vault, 2)
    within(full, lambda assembly: others.restore(vault, "", assembly))
    assert within(full, rows) == whole
