"""A login that sends as a stolen one does, from its session to the hosts that refuse its recipients."""

from pathlib import Path

from fastmail.directory.memory import MemoryDirectory
from fastmail.relay.suspicion import Rules, Watch
from tests.integration.test_relay import run, world
from tests.support.sessions import USER


def test_what_a_stolen_login_sends_is_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": "550 5.1.1 nobody"}) as w:
            directory = MemoryDirectory()
            directory.add_domain("example.test")
            directory.add_account(USER, "{PLAIN}x", "")
            told: list[str] = []

            async def tell(address: str, content: bytes) -> None:
                told.append(address)

            w.outward.watch = Watch(Rules(3), w.spool, directory, tell, "mx.example.test")
            w.dns.broken.add("later.test")
            w.run()
            await w.send("waits@later.test")
            await w.send(*(f"{n}@far.test" for n in range(3)))
            await w.until(lambda: told == ["postmaster@example.test"])
            account = directory.account(USER)
            assert account is not None and account.stopped.startswith("3 of ")
            assert [job.paused for item, job in w.spool.jobs() if item.login] == [True]
            await w.send("late@far.test")  # its client was faster
            await w.until(lambda: [job.paused for item, job in w.spool.jobs() if item.login] == [True, True])
            assert not any("late@far.test" in line for line in w.sink.lines)

    run(scenario)
