from collections.abc import Sequence

Own = tuple[int, bytes, bytes, str, int, int]  # see Fields.usual

class Fields:
    """The fields of a header (LF or CRLF; the empty line and what is behind it do not count). ``count``: how many;
    ``end``: where the header ends; ``broken``: some line of it is no field, or there are more than 10,000 of them;
    ``cr``: there is a CR in it. Names are given in lower case."""

    count: int
    end: int
    broken: bool
    cr: bool
    def __init__(self, data: bytes) -> None: ...
    def named(self, name: bytes) -> list[bytes]:
        """All fields of that name, whole and in order."""
    def values(self, name: bytes, most: int) -> list[bytes] | None:
        """Their values, from behind the colon on; None where these fields have more than ``most`` octets."""
    def number(self, name: bytes) -> int:
        """How many there are."""
    def numbers(self, names: tuple[bytes, ...], most: int) -> tuple[int, ...]:
        """How many there are of each name, ``most`` at most."""
    def canonical(self, names: Sequence[bytes], relaxed: bool) -> bytes:
        """The fields that a signature covers, in canonical form: for each of the names the next one from the bottom up;
        nothing where there is none left (RFC 6376 5.4.2)."""
    def signed(self, names: Sequence[bytes], relaxed: bool, field: bytes, unsigned: bytes) -> bytes:
        """What the signature in ``field`` is of: these fields, of which it is none itself (RFC 6376 3.5), then
        ``unsigned``, the same without the value of b=, without the line end (3.7). ValueError where ``unsigned`` has no
        colon."""
    def usual(
        self, longest: int, most: int, marks: tuple[bytes, ...]
    ) -> (
        tuple[bytes, bytes, bool, bytes, bool, tuple[bytes, ...], list[tuple[int, bytes, bytes, str, int, int]]] | None
    ):
        """What a header says, if it is like nearly all: each line is of a field, there is no CR, one From, one Reply-To
        at most, nothing of ARC, ``most`` signatures of DKIM at most. Returned are

        - the value of From, and that of Reply-To, empty where there is none;
        - True if there is a List-Id, and the beginning of the first Subject, empty where there is none;
        - True if no field's name begins with one of ``marks`` (in lower case);
        - for each signature, from the top, what it has in common with others of its signer (``tags.signature``);
        - for each signature its own: its place (``covered``), bh= and b= in octets, the beginning of b= for people, t=
          and x= (-1 for none).

        None for any other header, and where one of the values, or what a signature has in common, has more than
        ``longest`` octets, or where b= or bh= is not base64 as it is usually written."""

    def covered(self, place: int, names: Sequence[bytes], relaxed: bool) -> bytes:
        """What the signature in the field at ``place`` is of: the same as ``signed`` of that field and of it without
        its b=. IndexError where there is no such field."""
    def digest(self, place: int, names: Sequence[bytes], relaxed: bool) -> bytes:
        """The SHA-256 of what ``covered`` returns."""
