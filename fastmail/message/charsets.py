"""Decodes octets by the charset names that mail uses (RFC 2045 5.1, RFC 2046 4.1.2), as mail programs and browsers do.

``decode`` never raises: octets that the charset does not have become U+FFFD. A name that is not in the table is never
given to Python's codec registry: the registry has codecs that are not charsets and codecs whose cost is not linear, and
it remembers every name that it was asked for. Every codec named here takes time that grows with the size alone.

Names are compared without case, and without everything but letters and digits, so ``ISO_8859-1:1987`` and
``iso8859-1-1987`` are the same name. Where senders use a name for more than it defines, the larger charset decodes it,
as in the WHATWG Encoding Standard: US-ASCII and ISO-8859-1 are read as windows-1252, GB2312 as GB 18030, KS C 5601 as
cp949, Shift_JIS as cp932.
"""

import codecs
import re
from collections.abc import Iterator
from functools import cache

_LONGEST_NAME = 64
_PIECE = 65536  # octets that are decoded at once
_SINGLE_OCTET = {
    "cp1252": "iso88591 iso885911987 isoir100 latin1 l1 ibm819 cp819 csisolatin1 iso8859 latin windows1252 win1252"
    " cp1252 cswindows1252 ansi",
    "cp1250": "windows1250 win1250 cp1250 cswindows1250",
    "cp1251": "windows1251 win1251 cp1251 cswindows1251",
    "cp1253": "windows1253 win1253 cp1253 cswindows1253",
    "cp1254": "windows1254 win1254 cp1254 cswindows1254 iso88599 iso885991989 isoir148 latin5 l5 csisolatin5",
    "cp1255": "windows1255 win1255 cp1255 cswindows1255",
    "cp1256": "windows1256 win1256 cp1256 cswindows1256",
    "cp1257": "windows1257 win1257 cp1257 cswindows1257",
    "cp1258": "windows1258 win1258 cp1258 cswindows1258",
    "cp874": "windows874 win874 cp874 dos874 ibm874 iso885911 tis620 tis6200 tis6201 tis62025330 tis62025331 cstis620",
    "iso8859_2": "iso88592 iso885921987 isoir101 latin2 l2 csisolatin2",
    "iso8859_3": "iso88593 iso885931988 isoir109 latin3 l3 csisolatin3",
    "iso8859_4": "iso88594 iso885941988 isoir110 latin4 l4 csisolatin4",
    "iso8859_5": "iso88595 iso885951988 isoir144 cyrillic csisolatincyrillic",
    "iso8859_6": "iso88596 iso885961987 isoir127 ecma114 asmo708 arabic csisolatinarabic iso88596i iso88596e"
    " csiso88596i csiso88596e",
    "iso8859_7": "iso88597 iso885971987 iso885972003 isoir126 elot928 ecma118 greek greek8 csisolatingreek",
    "iso8859_8": "iso88598 iso885981988 iso885981999 isoir138 hebrew csisolatinhebrew iso88598i iso88598e csiso88598i"
    " csiso88598e visual logical",
    "iso8859_10": "iso885910 iso8859101992 isoir157 latin6 l6 csisolatin6",
    "iso8859_13": "iso885913 csiso885913 latin7 l7",
    "iso8859_14": "iso885914 iso8859141998 isoir199 latin8 l8 isoceltic csiso885914",
    "iso8859_15": "iso885915 iso8859151998 latin9 l9 latin0 csisolatin9 csiso885915",
    "iso8859_16": "iso885916 iso8859162001 isoir226 latin10 l10 csiso885916",
    "koi8_r": "koi8r koi8 koi cskoi8r",
    "koi8_u": "koi8u koi8ru cskoi8u",
    "koi8_t": "koi8t",
    "kz1048": "kz1048 strk10482002 rk1048 cskz1048",
    "ptcp154": "ptcp154 csptcp154 pt154 cp154 cyrillicasian",
    "mac_roman": "macintosh mac macroman csmacintosh",
    "mac_cyrillic": "maccyrillic macukrainian",
    "mac_greek": "macgreek",
    "mac_turkish": "macturkish",
    "mac_latin2": "macce maccentraleurope maccentralroman",
    "mac_iceland": "maciceland macicelandic",
    "hp_roman8": "hproman8 roman8 r8 cshproman8",
    "cp720": "cp720 ibm720 dos720",
    "cp737": "cp737 ibm737 dos737",
    "cp1006": "cp1006 ibm1006",
    "cp1125": "cp1125 ibm1125 cp866u ruscii",
} | {
    f"cp{n}": f"cp{n} ibm{n} {n} csibm{n} cspc{n} dos{n}"
    for n in (437, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869)
}  # fmt: skip
_ASCII = "ascii usascii ansix341968 ansix341986 iso646us iso646irv1991 iso646irv isoir6 us ibm367 cp367 csascii"
_NO_CHARSET = "unknown8bit unknown8bits csunknown8bit unknown none default 7bit 8bit 8bits binary"
_SEVERAL_OCTETS = {
    "utf-8": "utf8 unicode11utf8 unicode20utf8 utf8n utf8mb4 cp65001 65001 csutf8",
    "utf-16": "utf16 unicode iso10646ucs2 ucs2 csunicode csutf16",
    "utf-16-le": "utf16le csutf16le",
    "utf-16-be": "utf16be csutf16be",
    "utf-32": "utf32 iso10646ucs4 ucs4 csucs4 csutf32",
    "utf-32-le": "utf32le csutf32le",
    "utf-32-be": "utf32be csutf32be",
    "utf-7": "utf7 unicode11utf7 csutf7 csunicode11utf7",
    "gb18030": "gb2312 gb231280 csgb2312 chinese csiso58gb231280 isoir58 gbk cp936 windows936 ms936 csgbk gb18030"
    " csgb18030 gb euccn gb18030022 gb180302000 gb180302005",
    "hz": "hzgb2312 hz",
    "cp950": "big5 csbig5 cnbig5 xbig5 big5hkscs csbig5hkscs big5eten cp950 windows950 ms950",
    "cp932": "shiftjis sjis mskanji csshiftjis windows31j cswindows31j cp932 ms932 mscp932 windows932 win932 cp943"
    " ibm943 sjisopen",
    "euc_jp": "eucjp cseucpkdfmtjapanese eucjpms eucjpwin euc ujis cp51932",
    "iso2022_jp_ext": "iso2022jp csiso2022jp iso2022jp1 iso2022jp2 csiso2022jp2 iso2022jp3 iso2022jp2004 iso2022jpext"
    " iso2022jpms cp50220 cp50221 cp50222 jis jisencoding csjisencoding",
    "cp949": "euckr cseuckr ksc56011987 ksc56011989 ksc5601 ksc korean isoir149 csksc56011987 windows949 cp949 uhc"
    " ms949 ksx1001 ksx10011992",
    "iso2022_kr": "iso2022kr csiso2022kr",
    "johab": "johab cp1361 ms1361",
}  # fmt: skip
_GUESS = ""
_TABLE = {
    alias: codec
    for table in (_SINGLE_OCTET, _SEVERAL_OCTETS, {_GUESS: f"{_ASCII} {_NO_CHARSET}"})
    for codec, aliases in table.items()
    for alias in aliases.split()
}
# A second codec to try where the first one fails: it adds Hong Kong's characters, or those of NEC and IBM.
_ALSO = {"cp950": "big5hkscs", "euc_jp": "euc_jis_2004"}
# Charsets whose text begins with a byte order mark; without one, the order that most senders use.
_MARKED = {
    "utf-16": ((codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF16_LE, "utf-16-le"), (b"", "utf-16-le")),
    "utf-32": ((codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF32_LE, "utf-32-le"), (b"", "utf-32-be")),
}
# These begin each encoded word in their initial state. UTF-7's decoder also starts a long run again with every piece,
# so its texts are cut at line breaks, which end a run (RFC 2152).
_STATEFUL = frozenset(("utf-7", "hz", "iso2022_jp_ext", "iso2022_kr"))
_WIDE = frozenset(codec for codec in _SEVERAL_OCTETS if codec.startswith(("utf-16", "utf-32")))
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_ESCAPE = re.compile(rb"\x1b(\$[@B]|\$\([@BDOPQ]|\([BJIH])")
_EIGHTH_BIT = bytes(i | 0x80 for i in range(256))


def known(name: str) -> bool:
    """True if this is the name of a charset that can be decoded here."""
    return _codec(name) is not None and _plain(name).removeprefix("x") not in _NO_CHARSET.split()


def decode(data: bytes, name: str) -> str:
    """Return octets in a charset as text.

    A name that is not in the table, and one that means "unknown", is guessed: UTF-8 where the octets are valid UTF-8,
    otherwise windows-1252. A long text is decoded in pieces, so that other threads can run between them."""
    codec = _codec(name)
    if not codec:
        return guess(data)
    if codec in _SINGLE_OCTET:
        return _by_table(data, codec)
    for strict in (codec, _ALSO.get(codec)):
        if strict is not None:
            try:
                return _by_codec(data, strict, "strict")
            except UnicodeError:
                continue
    if codec == "iso2022_jp_ext":
        return _japanese(data)
    return _by_codec(data, codec, "replace")


def encode(text: str, name: str) -> bytes | None:
    """Text as octets that can be put behind others in a charset; None where the charset does not have it, keeps a state
    between characters, or is not known here."""
    codec = _codec(name)
    if codec is None or codec in _STATEFUL or codec in _WIDE:
        return None
    try:
        return text.encode(codec or "ascii")
    except UnicodeError:
        return None


def guess(data: bytes) -> str:
    """Text of which nobody says the charset: UTF-8 where the octets are that, else windows-1252."""
    try:
        return _by_codec(data, "utf-8", "strict")
    except UnicodeError:
        return _by_table(data, "cp1252")


def _by_codec(data: bytes, codec: str, errors: str) -> str:
    if codec in _MARKED:
        codec, skipped = next(((by, len(mark)) for mark, by in _MARKED[codec] if data.startswith(mark)))
        data = data[skipped:]
    if len(data) <= _PIECE:
        return data.decode(codec, errors)
    if codec == "utf-7":
        return "".join(piece.decode(codec, errors) for piece in _pieces(data, b"\n"))
    decoder = codecs.getincrementaldecoder(codec)(errors)
    out = [decoder.decode(piece) for piece in _pieces(data)]
    return "".join((*out, decoder.decode(b"", True)))


def _by_table(data: bytes, codec: str) -> str:
    table = _characters(codec)
    return "".join(codecs.charmap_decode(piece, "replace", table)[0] for piece in _pieces(data))


def _pieces(data: bytes, behind: bytes = b"") -> Iterator[bytes]:
    """Yield pieces of at most _PIECE octets. With ``behind``, a piece ends after the last such octet in it, if it has
    one."""
    at = 0
    while at < len(data):
        end = at + _PIECE
        if behind and end < len(data):
            end = data.rfind(behind, at, end) + 1 or end
        yield data[at:end]
        at = end


def joins(one: str, other: str) -> bool:
    """Return True if octets in these two charsets may be decoded as one piece: it is the same charset, and its decoder
    has no state that begins again with each piece."""
    codec = _codec(one)
    return codec is not None and codec == _codec(other) and codec not in _STATEFUL


def _plain(name: str) -> str:
    return _NOT_IN_A_NAME.sub("", name.lower()) if len(name) <= _LONGEST_NAME else ""


def _codec(name: str) -> str | None:
    """Return Python's codec for a charset; empty for a charset that has to be guessed, None for an unknown name."""
    plain = _plain(name)
    found = _TABLE.get(plain)
    if found is None and plain.startswith("x"):  # x-gbk, x-sjis, x-mac-cyrillic
        found = _TABLE.get(plain[1:])
    return found


@cache
def _characters(codec: str) -> str:
    """Return the character of each octet. An octet without one becomes the control character of that number
    (WHATWG)."""
    octets = (bytes((i,)).decode(codec, "ignore") or chr(i) for i in range(256))
    return "".join(octets)


def _japanese(data: bytes) -> str:
    """Decode ISO-2022-JP with characters that it does not define and senders use: NEC's and IBM's, half-width kana."""
    out: list[str] = []
    state = b"(B"
    for at, piece in enumerate(_ESCAPE.split(data)):
        if at % 2:
            state = piece
        elif not piece:
            continue
        elif state in (b"(B", b"(J", b"(H"):
            out.append(guess(piece))
        elif state == b"(I":
            out.append(piece.translate(_EIGHTH_BIT).decode("cp932", "replace"))
        elif state == b"$(D":
            out.append((b"\x1b$(D" + piece).decode("iso2022_jp_ext", "replace"))
        else:
            out.append(piece.translate(_EIGHTH_BIT).decode("euc_jis_2004", "replace"))
    return "".join(out)
