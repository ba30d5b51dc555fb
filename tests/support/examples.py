"""How many examples hypothesis makes up: all that a test asks for, or a tenth of them in the loop of a minute."""

import os

FEW = os.environ.get("FASTMAIL_EXAMPLES") == "few"


def some(count: int) -> int:
    """``count`` examples, fewer in `make check`."""
    return max(10, count // 10) if FEW else count
