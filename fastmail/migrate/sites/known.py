"""The sites that can be read, by the name that ``--from`` has."""

from collections.abc import Callable

from fastmail.migrate.sites import hmailserver, iredmail, ispmail, mailcow, postfixadmin, vpopmail
from fastmail.migrate.sites.base import Base
from fastmail.migrate.sites.model import Options, Records

Reader = Callable[[Base, Options], Records]
SITES: dict[str, Reader] = {
    "postfixadmin": postfixadmin.read,
    "mailcow": mailcow.read,
    "iredmail": iredmail.read,
    "hmailserver": hmailserver.read,
    "ispmail": ispmail.read,
    "vpopmail": vpopmail.read,
}
