"""What ``account rename`` and ``domain rename`` share: who keeps the accounts, and what has to follow a new name."""

import re

from fastmail.cli.common import directory, errors
from fastmail.config.settings import Config
from fastmail.directory.errors import DirectoryError
from fastmail.directory.local import LocalDirectory
from fastmail.telemetry import log


def need_accounts_here(place: LocalDirectory, name: str) -> None:
    """DirectoryError where another program keeps an account, or the accounts of a domain: the directory itself refuses
    those of a domain that names a source."""
    domain = name.rpartition("@")[2]
    if place.is_followed(domain) and not place.source_of(domain):
        raise DirectoryError("another program keeps the accounts ([directory]): rename them there")


def may_rename(settings: Config, config: str, name: str) -> LocalDirectory:
    """The directory, where the account or domain of that name is kept here; DirectoryError where another program keeps
    it. What an earlier change of a name has left to do is done first."""
    place = directory(config)
    need_accounts_here(place, name)
    if any(place.renames()):
        place.close()
        follow_renames(settings)
        place = directory(config)
    return place


def follow_renames(settings: Config) -> None:
    """Let the mail store know new names."""
    import asyncio  # which no command needs that only looks

    log.setup(settings.log.format, "warning")  # the command says itself what it did
    asyncio.run(_follow(settings))


async def _follow(settings: Config) -> None:
    from fastmail.app.assembly import beside  # the whole server, which takes a third of a second
    from fastmail.app.renames import finish

    async with beside(settings) as assembly:
        if any(assembly.directory.renames()):
            await finish(assembly)


def warn_of_settings(config: str, old: str) -> None:
    """The configuration may name somebody by an old name. Comments say nothing, nor does a longer name with it."""
    name = re.compile(rf"(?<![\w.-]){re.escape(old)}(?![\w-]|\.\w)", re.IGNORECASE)
    with open(config, encoding="utf-8") as file:
        lines = [str(number) for number, line in enumerate(file, 1) if name.search(line) and line.lstrip()[:1] != "#"]
    if lines:
        where = f"line {', '.join(lines)}" if len(lines) < 9 else f"{len(lines)} lines"
        errors.print(f"{config} still has {old}, in {where}: change it, and restart the server", markup=False)
