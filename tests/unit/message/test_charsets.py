"""Charset names as senders write them, and octets as mail programs read them."""

import codecs
import subprocess
import sys

import pytest

from fastmail.message import charsets


@pytest.mark.parametrize(
    ("name", "octets", "text"),
    [
        ("windows-874", "\u0e01\u0e02".encode("cp874"), "\u0e01\u0e02"),
        ("TIS-620", "\u0e01".encode("cp874"), "\u0e01"),
        ("unknown-8bit", "gr\u00fc\u00df".encode(), "gr\u00fc\u00df"),
        ("x-unknown", b"gr\xfc\xdf", "gr\u00fc\u00df"),
        ("iso-8859-8-i", "\u05e9\u05dc\u05d5\u05dd".encode("iso8859_8"), "\u05e9\u05dc\u05d5\u05dd"),
        ("ks_c_5601-1987", "\ud55c\uae00\ub620".encode("cp949"), "\ud55c\uae00\ub620"),
        ("KS_C_5601-1989", "\ud55c".encode("cp949"), "\ud55c"),
        ("euc-kr", "\ub620".encode("cp949"), "\ub620"),
        ("gb2312", "\u6f22\u9555".encode("gbk"), "\u6f22\u9555"),
        ("x-gbk", "\u6f22".encode("gbk"), "\u6f22"),
        ("big5", "\u4e2d\u7881".encode("cp950"), "\u4e2d\u7881"),
        ("Big5", "\u5605\u4e2d".encode("big5hkscs"), "\u5605\u4e2d"),
        ("shift_jis", "\u2460\u9ad9".encode("cp932"), "\u2460\u9ad9"),
        ("windows-31j", "\u2460".encode("cp932"), "\u2460"),
        ("x-sjis", "\u65e5\u672c".encode("cp932"), "\u65e5\u672c"),
        ("euc-jp", b"\xc6\xfc\xad\xa1", "\u65e5\u2460"),
        ("iso-2022-jp", b"\x1b$B-!F|\x1b(B x", "\u2460\u65e5 x"),
        ("ISO-2022-JP", b"\x1b$BF|K\\\x1b(B\x1b(I1\x1b(B!", "\u65e5\u672c\uff71!"),
        ("us-ascii", b"\x93quoted\x94 \x80", "\u201cquoted\u201d \u20ac"),
        ("us-ascii", "gr\u00fc\u00df".encode(), "gr\u00fc\u00df"),
        ("iso-8859-1", b"\x93quoted\x94", "\u201cquoted\u201d"),
        ("ISO_8859-1:1987", b"\xe9", "\u00e9"),
        ("latin1", b"\x81\xe9", "\x81\u00e9"),
        ("iso-8859-9", "\u015f".encode("cp1254"), "\u015f"),
        ("cp-850", "\u00e9".encode("cp850"), "\u00e9"),
        ("IBM850", "\u00e9".encode("cp850"), "\u00e9"),
        ("koi8-r", "\u043f\u0440".encode("koi8-r"), "\u043f\u0440"),
        ("KOI8-RU", "\u0457".encode("koi8-u"), "\u0457"),
        ("win-1251", "\u043f".encode("cp1251"), "\u043f"),
        ("x-mac-cyrillic", "\u043f".encode("mac_cyrillic"), "\u043f"),
        ("macintosh", "\u00e9".encode("mac_roman"), "\u00e9"),
        ("unicode-1-1-utf-7", b"gr+APw-n", "gr\u00fcn"),
        ("hz-gb-2312", b"~{<:Ky2;S{~}", "\u5df1\u6240\u4e0d\u6b32"),
        ("utf-16", codecs.BOM_UTF16_BE + "\u00e9x".encode("utf-16-be"), "\u00e9x"),
        ("utf-16", "\u00e9x".encode("utf-16-le"), "\u00e9x"),
        ("UTF8", "\u00e9".encode(), "\u00e9"),
        ("utf-8", b"a\xffb", "a\ufffdb"),
        ('"utf-8"', "\u00e9".encode(), "\u00e9"),
        ("nobody-knows", "\u00e9".encode(), "\u00e9"),
        ("nobody-knows", b"\xe9", "\u00e9"),
        ("", b"\xe9", "\u00e9"),
    ],
)
def test_octets_are_read_as_mail_programs_read_them(name: str, octets: bytes, text: str) -> None:
    assert charsets.decode(octets, name) == text


@pytest.mark.parametrize(
    "name",
    ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "uu", "uu_codec", "hex", "base64", "zlib", "bz2", "rot13",
     "mbcs", "oem", "undefined", "charmap", "quopri", "unknown-8bit", "x-unknown", "8bit", "", "x", "utf-8" * 20],
)  # fmt: skip
def test_what_is_no_charset_is_not_known(name: str) -> None:
    assert not charsets.known(name)
    assert charsets.decode(b"-a\xe9" * 10, name) == "-a\u00e9" * 10


def test_names_that_are_known() -> None:
    for name in ("utf-8", "US-ASCII", "iso-8859-15", "x-sjis", "ISO-2022-KR", "windows-1257", "cp866", "gb18030"):
        assert charsets.known(name)


def test_every_codec_of_the_table_is_there_and_takes_any_octets() -> None:
    octets = bytes(range(256)) * 300  # more than one piece
    for alias in charsets._TABLE:
        text = charsets.decode(octets, alias)
        assert text and charsets.decode(b"", alias) == ""


@pytest.mark.parametrize("codec", sorted(set(charsets._SEVERAL_OCTETS) - {"utf-7"}))
def test_a_long_text_in_pieces_is_the_same(codec: str) -> None:
    text = "\u65e5\u672c a\u00e9\ud55c\u4e2d " * 30_000
    octets = text.encode(codec, "ignore")
    assert len(octets) > 2 * charsets._PIECE
    assert charsets._by_codec(octets, codec, "replace") == octets.decode(codec, "replace")


def test_a_strangers_names_are_not_remembered() -> None:
    """Python keeps every name that its registry was asked for (A name of 60 kB costs 60 kB for ever)."""
    program = (
        "import resource, sys\n"
        "from fastmail.message import charsets\n"
        "def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used()\n"
        "for n in range(1500):\n"
        "    charsets.known('c%d' % n + 'x' * 60_000); charsets.decode(b'a', 'd%d' % n + 'y' * 60_000)\n"
        "print(used() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096  # KiB; by the registry it is 170,000


def test_what_may_be_joined() -> None:
    assert charsets.joins("UTF-8", "utf8") and charsets.joins("gb2312", "gbk")
    assert not charsets.joins("utf-8", "latin1") and not charsets.joins("iso-2022-jp", "iso-2022-jp")
    assert not charsets.joins("nobody", "nobody")
