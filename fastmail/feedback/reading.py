"""Reads an aggregate report of others (RFC 9990; RFC 7489 C for older ones), as it comes, in pieces.

The XML goes through expat once, and only values at known places are kept; a place is a path of names. Elements with
another prefix than the root's are extensions, and passed over (RFC 9990 5). Namespaces are not looked up, because expat
would put a name of any length in front of each element. Promise: a document type, and with it every entity, is refused
before anything of it is read; depth, length of values and number of records are bounded; time is linear.

BadReport where it is no XML, or lacks what a report must have. A record that makes no sense (no address, no count) is
left out and counted; values that nobody knows become empty.
"""

import ipaddress
from collections.abc import Iterable
from xml.parsers import expat

from fastmail.feedback.model import (
    DAY,
    DISPOSITIONS,
    FORMER_OVERRIDES,
    OVERRIDES,
    RESULTS,
    BadReport,
    Policy,
    Report,
    Row,
)
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

ROOT, UNKNOWN = "feedback", "?"
LONGEST_NAME = 40  # of an element; a longer one is not known
DEPTH = 12  # of elements; a report has 5
VALUE = 512  # characters
RECORDS = 20_000
SIGNATURES = 100  # of a record (RFC 9990 3.1.3)
REASONS = 10  # of a record
LONGEST_TOKEN = 1 << 20  # octets of one tag or comment
LONGEST_PERIOD = 32 * DAY
MOST = (1 << 31) - 1  # messages of a record
LAST = 1 << 33  # seconds since 1970
META, POLICY, RECORD = "feedback/report_metadata", "feedback/policy_published", "feedback/record"
IDENTIFIERS, RESULTS_OF = f"{RECORD}/identifiers", f"{RECORD}/auth_results"
EVALUATED = f"{RECORD}/row/policy_evaluated"
PLACES = frozenset(
    [
        *(f"{META}/{name}" for name in ("org_name", "email", "report_id", "error", "generator")),
        *(f"{META}/date_range/{name}" for name in ("begin", "end")),
        *(f"{POLICY}/{name}" for name in ("domain", "p", "sp", "np", "adkim", "aspf", "fo", "testing")),
        f"{POLICY}/discovery_method",
        *(f"{RECORD}/row/{name}" for name in ("source_ip", "count")),
        *(f"{EVALUATED}/{name}" for name in ("disposition", "dkim", "spf", "reason/type", "reason/comment")),
        *(f"{IDENTIFIERS}/{name}" for name in ("header_from", "envelope_from")),
        *(f"{RESULTS_OF}/dkim/{name}" for name in ("domain", "selector", "result")),
        *(f"{RESULTS_OF}/spf/{name}" for name in ("domain", "result")),
    ]
)
LISTS = {f"{EVALUATED}/reason": REASONS, f"{RESULTS_OF}/dkim": SIGNATURES, f"{RESULTS_OF}/spf": 1}
Values = dict[str, str]


def read(pieces: Iterable[bytes]) -> Report:
    """The report. BadReport."""
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


class Reader:
    """One report on its way in."""

    def __init__(self) -> None:
        self._expat = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        self._fed = 0
        self._prefix = ""  # of the root's name, with its colon
        self._path: list[str] = []  # the place of each element that is open; UNKNOWN for others
        self._place = ""  # of the value that is being read
        self._text: list[str] = []
        self._length = 0
        # what was read: of the report, and of the record under way
        self._values: Values = {}
        self._record: Values = {}
        self._lists: dict[str, list[Values]] = {}
        self._rows: list[tuple[Row, int]] = []
        self._left_out = 0

    def feed(self, piece: bytes) -> None:
        """More of it. BadReport."""
        self._fed += len(piece)
        self._parse(piece, False)
        if self._fed - self._expat.CurrentByteIndex > LONGEST_TOKEN:
            raise BadReport("it has a tag that does not end")

    def finish(self) -> Report:
        """All of it has come. BadReport."""
        self._parse(b"", True)
        return self._report()

    def _parse(self, piece: bytes, last: bool) -> None:
        try:
            self._expat.Parse(piece, last)
        except BadReport:
            raise
        except expat.ExpatError as error:
            raise BadReport(f"it is no XML: {expat.ErrorString(error.code)} in line {error.lineno}") from None
        except (LookupError, ValueError):  # what pyexpat raises for an encoding that it does not know, or cannot use
            raise BadReport("it is in an encoding that is not known") from None

    # ---------------------------------------------------------------- what expat calls

    def _doctype(self, *_: object) -> None:
        raise BadReport("it has a document type, which may be an attack")

    def _start(self, name: str, _: object) -> None:
        if len(self._path) >= DEPTH:
            raise BadReport("its elements are nested too deeply")
        path = self._below(name)
        self._path.append(path)
        self._place, self._text, self._length = (path if path in PLACES else ""), [], 0
        if path == RECORD:
            if len(self._rows) + self._left_out >= RECORDS:
                raise BadReport(f"it has more than {RECORDS} records")
            self._record, self._lists = {}, {}
        elif path in LISTS:
            found = self._lists.setdefault(path, [])
            found.append({})
            if len(found) > LISTS[path]:
                found.pop()

    def _below(self, name: str) -> str:
        """The place of an element in the one that is open."""
        if not self._path:
            prefix, colon, local = name.rpartition(":")
            self._prefix = prefix + colon
            return local if local == ROOT else UNKNOWN
        above = self._path[-1]
        if above == UNKNOWN or len(name) > len(self._prefix) + LONGEST_NAME or not name.startswith(self._prefix):
            return UNKNOWN
        local = name[len(self._prefix) :]
        return UNKNOWN if ":" in local else f"{above}/{local}"

    def _characters(self, text: str) -> None:
        if self._place and self._length < VALUE:
            self._text.append(text[: VALUE - self._length])
            self._length += len(text)

    def _end(self, _: str) -> None:
        path = self._path.pop()
        if self._place:
            self._keep(self._place, "".join(self._text).strip())
        self._place = ""
        if path == RECORD:
            self._add_record()

    def _keep(self, place: str, value: str) -> None:
        """The first of several values counts."""
        above, _, name = place.rpartition("/")
        if above in LISTS:
            found = self._lists.get(above)
            if found:
                found[-1].setdefault(name, value)
        elif place.startswith(RECORD):
            self._record.setdefault(place, value)
        else:
            self._values.setdefault(place, value)

    # ---------------------------------------------------------------- what it means

    def _add_record(self) -> None:
        record = self._record

        def value(place: str) -> str:
            return record.get(place, "")

        try:
            source = str(ipaddress.ip_address(value(f"{RECORD}/row/source_ip")))
            header_from = ascii_name(value(f"{IDENTIFIERS}/header_from"))
        except (ValueError, BadAddress):
            self._left_out += 1
            return
        messages = number(value(f"{RECORD}/row/count"), MOST)
        if not messages:
            self._left_out += 1
            return
        spf = (self._lists.get(f"{RESULTS_OF}/spf") or [{}])[0]
        row = Row(
            source,
            one_of(value(f"{EVALUATED}/disposition"), DISPOSITIONS),
            "pass" if value(f"{EVALUATED}/dkim").lower() == "pass" else "fail",
            "pass" if value(f"{EVALUATED}/spf").lower() == "pass" else "fail",
            header_from,
            name_of(value(f"{IDENTIFIERS}/envelope_from")),
            tuple(
                (one_of(one.get("type", ""), OVERRIDES + FORMER_OVERRIDES) or "other", one.get("comment", ""))
                for one in self._lists.get(f"{EVALUATED}/reason", [])
            ),
            tuple(
                (name_of(one.get("domain", "")), one.get("selector", ""), one_of(one.get("result", ""), RESULTS))
                for one in self._lists.get(f"{RESULTS_OF}/dkim", [])
            ),
            name_of(spf.get("domain", "")),
            one_of(spf.get("result", ""), RESULTS),
        )
        self._rows.append((row, messages))

    def _report(self) -> Report:
        values = self._values

        def told(name: str) -> str:
            return values.get(f"{POLICY}/{name}", "").lower()

        begin = number(values.get(f"{META}/date_range/begin", ""), LAST)
        end = number(values.get(f"{META}/date_range/end", ""), LAST)
        domain, ident = name_of(told("domain")), values.get(f"{META}/report_id", "")
        if not domain or not ident:
            raise BadReport("it does not say which domain it is about" if not domain else "it has no report_id")
        if not 0 < begin <= end <= begin + LONGEST_PERIOD:
            raise BadReport("it does not say of which time it is")
        if not self._rows:
            raise BadReport("it has no record that can be read")
        policy = Policy(
            domain,
            one_of(told("p"), DISPOSITIONS),
            one_of(told("sp"), DISPOSITIONS),
            one_of(told("np"), DISPOSITIONS),
            one_of(told("adkim"), ("r", "s")),
            one_of(told("aspf"), ("r", "s")),
            told("fo"),
            one_of(told("testing"), ("y", "n")),
            method=one_of(told("discovery_method"), ("psl", "treewalk")),
        )
        return Report(
            values.get(f"{META}/org_name", ""),
            values.get(f"{META}/email", ""),
            ident,
            begin,
            end,
            policy,
            tuple(self._rows),
            values.get(f"{META}/error", ""),
            values.get(f"{META}/generator", ""),
            self._left_out,
        )


def number(text: str, most: int) -> int:
    """A number that is not negative and at most ``most``; 0 for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return 0
    value = int(text)
    return value if value <= most else 0


def one_of(text: str, known: Iterable[str]) -> str:
    """A word in lower case; empty where nobody knows it."""
    word = text.lower()
    return word if word in known else ""


def name_of(text: str) -> str:
    """A domain name in its one form; empty for what is none."""
    try:
        return ascii_name(text) if text else ""
    except BadAddress:
        return ""
