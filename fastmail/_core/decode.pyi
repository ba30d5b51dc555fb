Octets = bytes | bytearray | memoryview

def base64(data: Octets) -> tuple[bytes, bool]:
    """(what base64 says, whether all of it was base64). Padding may lack, and more base64 may follow it; what is no
    digit is passed over, but behind padding it ends the answer and makes the second False: text in another form
    follows."""

def quoted_printable(data: Octets) -> bytes:
    """What quoted-printable says. White space at a line's end is transport padding; what is no code stays as it is."""

def words(raw: bytes) -> list[bytes | tuple[bytes, bytes]]:
    """An unfolded header value in pieces: octets between encoded words as they are, encoded words as (charset with its
    language, decoded octets), without the white space between two of them."""

def html(data: Octets, shown: bool) -> bytes:
    """HTML in UTF-8 without its tags; entities stay. ``shown``: also without comments and the texts of style, script,
    head and title, and with a space for each tag; False: nothing but tags is removed, and words stay together."""
