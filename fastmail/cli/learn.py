"""``fastmail learn``: teach the classifier of [learning] what is spam, and what is ham: mail that is no spam."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import typer

from fastmail._core.uidset import UidSet
from fastmail.app.assembly import beside
from fastmail.app.derived import learned_of
from fastmail.cli.common import USAGE, ConfigOption, JsonOption, account_of, command, errors, fail, read_config, show
from fastmail.config.settings import Config
from fastmail.directory.local import LocalDirectory
from fastmail.model.errors import in_words
from fastmail.model.mailbox_name import canonical
from fastmail.policy.learning.counts import EVERYBODY, HAM, SPAM, Done, Learned, Lesson
from fastmail.policy.learning.words import read

BATCH = 100  # messages of a commit
FORGET = 0

app = typer.Typer(
    no_args_is_help=True,
    help="Teach the classifier what is spam and what is ham: mail that is no spam. The setting learning.enabled says "
    "whether it is asked. Without --account everybody is taught, with it that account. A message counts once; called "
    "the other thing, it is learned anew.",
)
Files = Annotated[
    list[str] | None, typer.Argument(metavar="[FILE...]", help="Messages, a file each; - for standard input.")
]
AccountOption = Annotated[str, typer.Option("--account", metavar="ADDRESS", help="Whose counts.")]
MailboxOption = Annotated[
    str, typer.Option("--mailbox", metavar="NAME", help="All messages of this mailbox of the account.")
]
EverybodyOption = Annotated[
    bool, typer.Option("--everybody", help="With --mailbox: teach everybody, and not the account.")
]


@app.command("spam")
@command
def spam(
    files: Files = None,
    account: AccountOption = "",
    mailbox: MailboxOption = "",
    everybody: EverybodyOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """These messages are spam."""
    _teach(config, SPAM, files or [], account, mailbox, everybody, json)


@app.command("ham")
@command
def ham(
    files: Files = None,
    account: AccountOption = "",
    mailbox: MailboxOption = "",
    everybody: EverybodyOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """These messages are no spam."""
    _teach(config, HAM, files or [], account, mailbox, everybody, json)


@app.command("forget")
@command
def forget(
    files: Files = None,
    account: AccountOption = "",
    mailbox: MailboxOption = "",
    everybody: EverybodyOption = False,
    everything: Annotated[bool, typer.Option("--everything", help="All that was learned, and no message.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Take back what was learned of these messages."""
    if not everything:
        _teach(config, FORGET, files or [], account, mailbox, everybody, json)
        return
    if files or mailbox:
        fail("--everything goes without messages", USAGE)
    settings = read_config(config)
    learned = learned_of(settings)
    try:
        learned.forget(_owner(settings, account, everybody))
    finally:
        learned.close()


@app.command("status")
@command
def status(config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """How much was learned, of whom; enough: so much that the classifier says something."""
    settings = read_config(config)
    learned = learned_of(settings)
    place = LocalDirectory(settings.server.data_dir)
    rows: list[dict[str, object]] = []
    try:
        for owner in learned.owners() if learned.there else []:
            one = learned.totals(owner)
            record = place.account_by_id(owner) if owner != EVERYBODY else None
            name = record.address if record is not None else "everybody" if owner == EVERYBODY else f"#{owner}"
            enough = one.enough(settings.learning.messages)
            rows.append({"who": name, "spam": one.spam, "ham": one.ham, "words": one.words, "enough": enough})
    finally:
        place.close()
        learned.close()
    show(rows, json, "nothing was learned yet")


def _owner(settings: Config, account: str, everybody: bool) -> int:
    if not account or everybody:
        return EVERYBODY
    place = LocalDirectory(settings.server.data_dir)
    try:
        return account_of(place, account).id
    finally:
        place.close()


def _teach(config: str, kind: int, files: list[str], account: str, mailbox: str, everybody: bool, json: bool) -> None:
    if mailbox and not account:
        fail("--mailbox needs --account", USAGE)
    if bool(files) == bool(mailbox):
        fail("name files, or a mailbox with --account and --mailbox", USAGE)
    settings = read_config(config)
    owner, learned = _owner(settings, account, everybody), learned_of(settings)
    done: Counter[str] = Counter()
    try:
        if mailbox:
            asyncio.run(_of_mailbox(settings, learned, owner, kind, account, mailbox, done))
        else:
            _in_batches(learned, owner, kind, map(_content, files), done)
    finally:
        learned.close()
    row = {name.replace(" ", "_"): done[name] for name in ("learned", "known", "taken back", "unknown")}
    if json:
        show([row], True)
    else:
        print(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in row.items() if number) or "nothing")
    if not settings.learning.enabled:
        errors.print("the classifier is not asked: [learning] enabled is false", markup=False)


def _content(path: str) -> bytes:
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            return file.read()
    except OSError as error:
        fail(f"{path}: {in_words(error, path)}")
        raise  # not reached: fail ends the command


def _in_batches(learned: Learned, owner: int, kind: int, contents: Iterator[bytes], done: Counter[str]) -> None:
    batch: list[Lesson] = []
    for content in contents:
        batch.append(Lesson(owner, read(content), kind))
        if len(batch) == BATCH:
            done.update(_named(kind, learned.teach(batch)))
            batch = []
    done.update(_named(kind, learned.teach(batch)))


def _named(kind: int, done: list[Done]) -> list[str]:
    """What is said of each: one that was never learned cannot be taken back."""
    return ["unknown" if one == "known" and kind == FORGET else one for one in done]


async def _of_mailbox(
    settings: Config, learned: Learned, owner: int, kind: int, address: str, name: str, done: Counter[str]
) -> None:
    batch: list[bytes] = []
    async for content in _contents(settings, address, name):
        batch.append(content)
        if len(batch) == BATCH:
            _in_batches(learned, owner, kind, iter(batch), done)
            batch = []
    _in_batches(learned, owner, kind, iter(batch), done)


async def _contents(settings: Config, address: str, name: str) -> AsyncIterator[bytes]:
    """Of a mailbox, message by message."""
    async with beside(settings) as assembly:
        account = assembly.deliverer.account(account_of(assembly.directory, address))
        await assembly.store.open(account)
        key = assembly.store.find(account, canonical(name, "/"))
        if key is None:
            fail(f"{address} has no mailbox {name}")
            return
        await assembly.store.sync(account, key)
        with assembly.store.snapshot(account) as snapshot:
            uids = UidSet().plus_pages(snapshot.presence(key), 0)
        for uid in uids:
            content = await assembly.store.content(account, key, uid)
            if content is not None:
                yield content
