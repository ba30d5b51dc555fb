"""What a client of IMAP can make long in one command: patterns, names, filters, keywords, URLs, contexts."""

from fastmail._core.imap import Reader
from fastmail._core.uidset import UidSet
from fastmail.imap import filters, metadata, updates, url, urlauth
from fastmail.imap.views import Context
from fastmail.model.mailbox_name import Pattern, decode_utf7
from fastmail.store.interface import Listing
from tests.support.growth import Case

NAMES = ["a" * 120] * 20  # as long as a name can be, or half of it


def _removals(n: int) -> tuple[Context, UidSet]:
    async def again() -> list[int]:
        return []

    order = [*range(n, 0, -1)]
    return Context(b"a", True, True, order, again), UidSet.of_ranges((1, n))


def _filters(n: int) -> tuple[filters.Filter, list[str]]:
    """Named subtrees, and as many mailboxes that are in none of them."""
    return filters.Filter(b"SUBTREE", {f"a/b{k}" for k in range(n)}), [f"a/c{k}/d" for k in range(n)]


def _ask(given: tuple[filters.Filter, list[str]]) -> list[bool]:
    listing = Listing()
    return [given[0].has(name, True, listing) for name in given[1]]


def _tell(given: tuple[Context, UidSet]) -> bytes:
    asked, view = given
    return updates.tell(asked, view, list(asked.results), [], [])


CASES = [
    Case("imap: wildcards and letters", 60, lambda n: "*a" * n + "*b",
         lambda text: [Pattern(text, "/").matches(name) for name in NAMES]),
    Case("imap: wildcards on longer names", 1_000, lambda n: "a" * n,
         lambda name: Pattern("*a" * 20 + "*b", "/").matches(name)),
    Case("imap: wildcards one after the other", 2_000, lambda n: "%*" * n + "b",
         lambda text: [Pattern(text, "/").matches(name) for name in NAMES]),
    Case("imap: & in a name", 8_000, lambda n: b"&-" * n, decode_utf7),
    Case("imap: filters of many mailboxes", 2_000, _filters, _ask),
    Case("imap: annotations asked for and there", 500,
         lambda n: ({b"/private/a/%d" % k: b"" for k in range(n)}, {b"/private/b/%d" % k for k in range(n)}),
         lambda given: [metadata.is_wanted(name, given[1], 2) for name in given[0]]),
    Case("imap: keywords of a STORE", 200, lambda n: b"(" + b" ".join(b"k%d" % k for k in range(n)) + b")",
         lambda data: Reader(data).flag_list()),
    Case("imap: ranges of a set", 4_000, lambda n: b",".join(b"%d" % (2 * k) for k in range(n, 0, -1)),
         lambda data: UidSet.of_ranges(Reader(data).sequence_set())),  # type: ignore[arg-type]
    Case("imap: a URL that is a host", 8_000, lambda n: "imap://" + "a" * n, url.parse),
    Case("imap: a URL of parameters", 8_000, lambda n: "imap://a@b/c" + ";UID=1/" * n, url.parse),
    Case("imap: authorities in a URL", 8_000, lambda n: "imap://" + "a;AUTH=*@b" * n, url.parse),
    Case("imap: tokens in a URL", 8_000, lambda n: ";URLAUTH=a" * n, urlauth.cut),
    Case("imap: an ordered search that loses all", 4_000, _removals, _tell),
]  # fmt: skip
