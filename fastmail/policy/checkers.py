"""The checks of mail from others, each with what it keeps: made once for all messages of a worker."""

from fastmail.dns.interface import Names
from fastmail.policy.arc import Arc
from fastmail.policy.claims import Claims
from fastmail.policy.dkim import Verifier
from fastmail.policy.dmarc import Evaluator
from fastmail.policy.iprev import Iprev
from fastmail.policy.lists import Lists
from fastmail.policy.received import Settings
from fastmail.policy.spf import Spf


class Checkers:
    """``names``: whom they ask; ``settings``: which of them are used."""

    def __init__(self, names: Names, settings: Settings) -> None:
        self.names = names
        self.settings = settings
        self.spf = Spf(names, settings.hostname, settings.voids)
        self.dkim = Verifier(names)
        self.dmarc = Evaluator(names)
        self.arc = Arc(names, self.dkim)
        self.iprev = Iprev(names)
        self.lists = Lists(names, settings.lists, settings.domain_lists, settings.link_lists, settings.seconds)
        self.claims = Claims(names, settings.hostname)
