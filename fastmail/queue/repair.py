"""Finds damage in the queue's index, and repairs it.

Damage is: a message or a job whose row cannot be read, a job without its message, and a line (the order of what is due)
that does not agree with the jobs. ``repair`` drops rows that cannot be read, because nobody can know the recipients or
the sender any more. It rebuilds the line from the jobs.
"""

from collections import Counter
from contextlib import suppress

from fastmail.durable import segments
from fastmail.durable.env import Environment
from fastmail.model.errors import CorruptData
from fastmail.queue.contents import NUMBER
from fastmail.queue.model import ITEM_KEY, KEY, Item, Job, item_of, number_of
from fastmail.queue.rows import item_row, job_row, read_item, read_job
from fastmail.queue.spool import ready_key


def _name(key: bytes) -> str:
    return number_of(ITEM_KEY.unpack_from(key)[0]) if len(key) in (ITEM_KEY.size, KEY.size) else key.hex()


def faults(env: Environment) -> list[tuple[str, str]]:
    """Return (id of a message, what is wrong) for each damaged row. It may run beside a running server."""
    out = []
    ready: set[bytes] = set()
    db = env.db
    with env.read() as txn:
        for key, value in txn.cursor(db=db["item"]).iternext():
            try:
                read_item(value)
            except CorruptData as error:
                out.append((_name(bytes(key)), str(error)))
        for key, value in txn.cursor(db=db["job"]).iternext():
            try:
                job = read_job(value)
            except CorruptData as error:
                out.append((_name(bytes(key)), str(error)))
                continue
            if job.key != key or txn.get(item_of(key), db=db["item"]) is None:
                out.append((_name(bytes(key)), "a job without its message"))
            elif not job.paused:
                ready.add(ready_key(job))
                if txn.get(ready_key(job), db=db["line"]) is None:
                    out.append((_name(bytes(key)), "it is missing in the line"))
        strays = sum(1 for key in txn.cursor(db=db["line"]).iternext(values=False) if bytes(key) not in ready)
    if strays:
        out.append(("", f"{strays} entries of the line belong to no job"))
    return out


def repair(env: Environment) -> None:
    """Drop what cannot be read, and rebuild the line from the rest. No server may use this queue meanwhile."""
    db = env.db
    items: dict[bytes, Item] = {}
    jobs: dict[bytes, Job] = {}
    with env.write() as txn:
        for key, value in txn.cursor(db=db["item"]).iternext():
            with suppress(CorruptData):
                items[key] = read_item(value)
        for key, value in txn.cursor(db=db["job"]).iternext():
            with suppress(CorruptData):
                job = read_job(value)
                if job.key == key and item_of(key) in items:
                    jobs[key] = job
        waiting = {item_of(key) for key in jobs}
        alive: Counter[int] = Counter()
        for name in ("item", "job", "line", "alive"):
            txn.drop(db[name], delete=False)
        for key, item in items.items():
            if key in waiting:
                txn.put(key, item_row(item), db=db["item"])
                if not item.hold:
                    alive[segments.split_id(item.record)[0]] += 1
        for key, job in jobs.items():
            txn.put(key, job_row(job), db=db["job"])
            if not job.paused:
                txn.put(ready_key(job), b"", db=db["line"])
        for number, count in alive.items():
            txn.put(NUMBER.pack(number), NUMBER.pack(count), db=db["alive"])
