"""Values of rows as different databases give them: texts as text or octets, yes and no as 1, "t" or True, times with
and without zones. Each function takes the default where a column is not there or says nothing that can be understood.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal

from fastmail.directory.fields import LINE

Row = dict[str, object]
YES = ("1", "t", "true", "y", "yes", "on")
KIB, MIB = 1 << 10, 1 << 20
SIZES = 1 << 53  # beyond what may be a limit
FIRST_FOREVER = 2_145_916_800  # 2038-01-01: sites write "forever" as a date of that year or later


def text(row: Row, name: str) -> str:
    """Without blanks around it; empty for NULL."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace").strip()
    return str(value).strip()


def number(row: Row, name: str) -> int:
    """0 for what is no number, or one that no limit can have."""
    value = row.get(name)
    if isinstance(value, bool | int | float | Decimal):
        found = int(value)
    else:
        word = text(row, name)
        found = int(word) if word.removeprefix("-").isdecimal() and len(word) < 20 else 0
    return found if abs(found) < SIZES else 0


def limit(row: Row, name: str, unit: int = 1) -> int:
    """A limit in octets, or a number; what is below 0 is no limit."""
    return max(0, min(number(row, name) * unit, SIZES - 1))


def flag(row: Row, name: str, default: bool = True) -> bool:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool | int):
        return bool(value)
    return text(row, name).lower() in YES


def moment(row: Row, name: str) -> int:
    """S since 1970; 0 for none, and for times so late that they mean never. Times without a zone are UTC."""
    value = row.get(name)
    if isinstance(value, int | float | Decimal):
        found = int(value)
    else:
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        try:
            when = value if isinstance(value, datetime) else datetime.fromisoformat(text(row, name))
            found = int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            return 0
    return found if 0 < found < FIRST_FOREVER else 0


def words(value: str) -> tuple[str, ...]:
    """What stands between commas and line ends, each once."""
    return once(value.replace("\r", ",").replace("\n", ",").split(","))


def once(values: Iterable[str]) -> tuple[str, ...]:
    """Texts without blanks around them, each once; case does not count."""
    return tuple({one.strip().lower(): one.strip() for one in values if one.strip()}.values())


def one_line(value: str) -> str:
    """A text for a field of one line."""
    return "".join(c if c.isprintable() else " " for c in value)[:LINE].strip()


def lines(value: str) -> str:
    """A text for a field of several lines."""
    whole = value.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in whole if c in "\n\t" or c.isprintable()).strip()
