"""A server's start on the disk that a loss of power left, and a moment of work, to be recorded by tests.crash.power.

``python -m tests.crash.again fastmail.toml INSTANCE``: opens and recovers everything as the keeper and a worker do, puts
some messages in, with checkpoints between them, and says ``b000001 OK m900001`` when one is durable.
"""

import asyncio
import os
import random
import sys

from fastmail.app.assembly import Assembly
from fastmail.config.load import load
from tests.crash.power import message
from tests.crash.quick import hurry

MESSAGES = 8


async def main() -> None:
    rng = random.Random(sys.argv[2])
    assembly = Assembly(load(sys.argv[1]), instance=sys.argv[2], recover=True)
    await assembly.start()
    accounts = [assembly.deliverer.account(row) for row in assembly.directory.accounts()]
    every = [shard.env for shard in assembly.store.commits.shards]
    for number in range(MESSAGES):
        account = rng.choice(accounts)
        await assembly.store.open(account)
        key = assembly.store.find(account, rng.choice(["INBOX", "Archive"]))
        if key is None:
            continue
        name = f"m{900000 + number:06d}"
        await assembly.store.append(account, key, [message(name)])
        os.write(1, f"b{900000 + number:06d} OK {name}\n".encode())
        if rng.random() < 0.3:
            for env in every:
                await asyncio.to_thread(env.checkpoint)
        await asyncio.sleep(rng.uniform(0, 0.1))
    if rng.random() < 0.3:
        await assembly.close()


if __name__ == "__main__":
    with hurry():
        asyncio.run(main())
    os._exit(0)
