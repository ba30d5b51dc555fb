"""Which addresses lead to the one for reports ([policy] reports_address), as the directory is now."""

from dataclasses import dataclass

from fastmail.delivery.deliver import Deliverer
from fastmail.directory.local import LocalDirectory
from fastmail.directory.lookup import landing
from fastmail.model.address import comparable
from fastmail.model.errors import MailError


@dataclass(frozen=True, slots=True)
class Ways:
    """``address``: where reports come in. What cannot be looked up now does not lead there."""

    address: str
    directory: LocalDirectory
    deliverer: Deliverer

    def is_same(self, recipient: str) -> bool:
        """Is a recipient the same row of the directory: with a detail, or under another name of its domain? A
        catch-all has the mail of everybody who is nobody, so it is none."""
        try:
            mine = landing(self.directory, comparable(self.address))
            found = landing(self.directory, comparable(recipient))
        except MailError:
            return False
        if not mine or not found:
            return False
        return found.name == mine.name and not found.name.startswith("@")

    def reaches(self, recipient: str) -> bool:
        """Does an account that the address leads to get the recipient's mail?"""
        if not self.directory.is_local(recipient.rpartition("@")[2]):
            return False
        try:
            mine, found = (self.deliverer.destinations(one).accounts for one in (self.address, recipient))
        except MailError:
            return False
        return not {one.id for one in mine}.isdisjoint(one.id for one in found)
