"""PROXY headers against their obvious reading: the whole header at once, by a regular expression and by slices of the
octets that HAProxy's specification names (proxy-protocol.txt 2.1, 2.2)."""

import contextlib
import ipaddress
import re
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.net.proxy import SIGNATURE, ProxyError, ProxyHeader
from tests.support.examples import some

PORT = rb"(0|[1-9][0-9]{0,4})"
V1 = re.compile(rb"PROXY (?:UNKNOWN(?: .*?)?|TCP([46]) ([^ ]+) ([^ ]+) %b %b)\r\n" % (PORT, PORT), re.DOTALL)
LONGEST_V1, LONGEST_V2 = 107, 16 + 4096


def obvious(data: bytes) -> tuple[str, int] | None:
    """(client, octets of the header), or None when ``data`` does not begin with one."""
    if data.startswith(SIGNATURE) and len(data) >= 16:
        kind, family, length = data[12], data[13], struct.unpack(">H", data[14:16])[0]
        end = 16 + length
        if kind not in (0x20, 0x21) or end > LONGEST_V2 or len(data) < end:
            return None
        if kind == 0x20:
            return "", end
        size = {1: 4, 2: 16}.get(family >> 4)
        if size is None:
            return "", end  # of a family without addresses, or a Unix socket
        if family & 15 != 1 or length < 2 * size + 4:
            return None
        return str(ipaddress.ip_address(data[16 : 16 + size])), end
    found = V1.match(data)
    if found is None or found.end() > LONGEST_V1:
        return None
    if found[1] is None:
        return "", found.end()
    with contextlib.suppress(ValueError):
        both = [ipaddress.ip_address(word.decode("ascii")) for word in found.group(2, 3)]
        if (
            b"%" not in found[0]
            and all(one.version == int(found[1]) for one in both)
            and max(int(found[4]), int(found[5])) <= 65535
        ):
            return str(both[0]), found.end()
    return None


def read(data: bytes) -> tuple[str, int] | None:
    """The same by ProxyHeader, fed no more than it asks for."""
    header, at = ProxyHeader(), 0
    try:
        while not header.done:
            step = header.wanted()
            assert step > 0
            if at + step > len(data):
                return None
            header.feed(data[at : at + step])
            at += step
    except ProxyError:
        return None
    return header.host, at


ADDRESSES = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["300.1.1.1", "::g", "", "1.2.3", "localhost", "fe80::1%1"])
)
LINES = st.builds(
    lambda kind, one, two, rest, end: f"PROXY {kind} {one} {two} {rest}".encode() + end,
    st.sampled_from(["TCP4", "TCP6", "UNKNOWN", "TCP5", ""]),
    ADDRESSES,
    ADDRESSES,
    st.sampled_from(["1 2", "0 65535", "1", "1 2 3", "65536 1", "01 2", "1 x", "x" * 100]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
)
BINARY = st.builds(
    lambda kind, family, body, lie: SIGNATURE + bytes([kind, family]) + struct.pack(">H", len(body) + lie) + body,
    st.sampled_from([0x20, 0x21, 0x22, 0x11, 0x00]),
    st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31, 0xFF]),
    st.one_of(st.binary(max_size=60), st.sampled_from([bytes(12), bytes(36), bytes(11), bytes(35), bytes(5000)])),
    st.sampled_from([0, 0, 0, 1]),
)


@settings(max_examples=some(2000), deadline=None)
@given(st.one_of(LINES, BINARY, st.binary(max_size=40), st.just(b"PROXY UNKNOWN\r\n")), st.binary(max_size=20))
def test_headers_are_read_as_the_specification_says(header: bytes, behind: bytes) -> None:
    assert read(header + behind) == obvious(header + behind)


@settings(max_examples=some(500), deadline=None)
@given(st.one_of(LINES, BINARY))
def test_octet_by_octet_is_the_same(data: bytes) -> None:
    header, used = ProxyHeader(), 0
    result: tuple[str, int] | None = None
    with contextlib.suppress(ProxyError):
        for used, octet in enumerate(data, 1):
            header.feed(bytes([octet]))
            if header.done:
                result = (header.host, used)
                break
    assert result == read(data)
