"""What the domain of an author asks of those who receive mail that is not as he signed it (DMARC, RFC 9989)."""

from fastmail._core import header
from fastmail.dns.interface import Budget, Names
from fastmail.policy import dmarc

STRICT = ("quarantine", "reject")


class Demands:
    """One in the process that expands lists; answers are kept for as long as the DNS says."""

    def __init__(self, names: Names) -> None:
        self._dmarc = dmarc.Evaluator(names)

    async def of(self, content: bytes) -> bool:
        """Does the author's domain want mail refused or set aside that fails DMARC? Where nobody can say, it may be
        so. A message without one author is nobody's."""
        try:
            author = dmarc.author(content[: header.end(content)])
        except dmarc.NoAuthor:
            return False
        found = await self._dmarc.evaluate(author, "", (), (), Budget())
        return found.result == "temperror" or found.policy in STRICT
