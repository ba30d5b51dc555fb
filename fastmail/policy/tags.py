"""Tag lists: ``a=b; c=d`` as DKIM has them in signatures and key records (RFC 6376 3.2), DMARC and ARC too.

Promise: linear and bounded. A name that is there twice, or a part that is no tag, is BadTags: one reader would take the
first, another the last.
"""

from binascii import a2b_base64

from fastmail._core import tags as core

without = core.without  # a field without the value of one tag, as a signature covers its own
plain = core.plain  # a value without any white space
signature = core.signature  # what all signatures of a signer have in common, and what is one message's own
PADDING = 2  # signs at most at the end of base64
_SPACE = " \t\r\n"


class BadTags(ValueError):
    """It is no tag list; the text says why."""


def parse(text: str) -> dict[str, str]:
    """Values by name, without the white space around them."""
    try:
        return core.tags(text)
    except ValueError as error:
        raise BadTags(str(error)) from None


def words(value: str) -> list[str]:
    """The items of a list with colons, in lower case."""
    return [word.strip(_SPACE).lower() for word in value.split(":")]


def base64(value: str) -> bytes:
    """The octets of base64, which may be folded, and have no padding (RFC 6376 2.10). ValueError."""
    text = plain(value)
    bare = text.rstrip("=")
    if len(text) - len(bare) > PADDING:
        raise ValueError("too much padding")
    return a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
