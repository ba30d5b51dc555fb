"""Messages with UTF-8 in their header fields as programs get them that know ASCII only (RFC 6857, RFC 6856 2.1)."""

import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.message import ascii_fields, encoded, surrogate
from fastmail.message.text import decode_value


def header_of(field: str) -> str:
    """One field of a message, as its surrogate has it."""
    content = surrogate.of(field.encode() + b"\n\nbody\n")
    assert content.endswith(b"\n\nbody\n")
    return content.removesuffix(b"\n\nbody\n").decode("ascii")


def shown(value: str) -> str:
    return str(make_header(decode_header(value.replace("\n", ""))))


def test_a_message_of_ascii_and_one_with_another_body_stay_the_same_object() -> None:
    for content in (b"Subject: x\n\nbody\n", "Subject: x\n\nk\u00f6rper\n".encode(), b"", b"\xff"[:0]):
        assert surrogate.of(content) is content
        assert not surrogate.needs_utf8(content)


def test_only_the_fields_that_need_it_change() -> None:
    content = "From: a@b.example\nSubject: Gr\u00fc\u00dfe  an alle\nX-Odd:  as \n\tit is\n\nk\u00f6rper\n".encode()
    assert surrogate.needs_utf8(content)
    made = surrogate.of(content)
    assert made == (
        b"From: a@b.example\nSubject: =?utf-8?b?R3LDvMOfZQ==?=  an alle\nX-Odd:  as \n\tit is\n\n"
        + "k\u00f6rper\n".encode()
    )
    assert surrogate.of(made) is made


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("From: J\u00f6rg <j@b.example>", 'From: "J\u00f6rg" <j@b.example>'),
        ('To: "M\u00fcller, H. \\"x\\"" <a@b.example>, c@d.example', 'To: "M\u00fcller, H. \\"x\\"" <a@b.example>, c@d.example'),
        ("Cc: a@stra\u00dfe.example", "Cc: a@xn--strae-oqa.example"),
        ("Cc: <a@b.example>, Gr\u00fcn <\u00fc@stra\u00dfe.example>", None),
        ("Reply-To: Team: a@b.example, J\u00f6rg <j@b.example>;", None),
    ],
)  # fmt: skip
def test_addresses_that_ascii_can_say_stay_addresses(written: str, made: str | None) -> None:
    def of(text: str) -> list[tuple[str, str]]:
        value = email.message_from_string(text + "\n\n", policy=email.policy.default).items()[0][1]
        return [(one.display_name, one.addr_spec) for one in value.addresses]  # type: ignore[attr-defined]

    there = of(header_of(written))
    if made is not None:
        assert there == of(made)
    else:
        assert ("", "a@b.example") in there


def test_an_address_that_ascii_cannot_say_is_the_name_of_an_empty_group() -> None:
    """RFC 6857 3.1.8: nobody can answer it, and it belongs to nobody."""
    made = header_of("From: J\u00f6rg <j\u00f6rg@example.org>")
    assert made.startswith("From: =?utf-8?b?") and made.endswith(" :;")
    assert shown(made) == "From: J\u00f6rg j\u00f6rg@example.org :;"
    assert shown(header_of("Return-Path: <\u00fc@example.org>")) == "Return-Path: \u00fc@example.org :;"


def test_a_group_with_a_lost_address_keeps_its_text() -> None:
    made = header_of("To: Team: a@b.example, \u00fc@c.example;, d@e.example")
    assert shown(made) == "To: Team a@b.example, \u00fc@c.example :;, d@e.example"


def test_comments_are_encoded() -> None:
    made = header_of("From: j@b.example (J\u00f6rg \\(x)")
    assert made.startswith("From: j@b.example (=?utf-8?b?") and made.endswith("?=)")
    assert header_of("Date: Mon, 1 Jan 2024 00:00:00 +0100 (mitteleurop\u00e4isch)").startswith(
        "Date: Mon, 1 Jan 2024 00:00:00 +0100 (=?utf-8?b?"
    )


@pytest.mark.parametrize(
    "value",
    [
        "J\u00f6rg <j@b.example",
        "a, <<\u00f6@x>>",
        '"\u00f6',
        "\u00f6 (",
        "x: y: \u00f6@z;;",
        "\u00f6: a@b",
        "<a@b> \u00f6 <c@d>",
    ],
)
def test_a_broken_list_of_addresses_is_shown_as_a_text(value: str) -> None:
    made = header_of(f"From: {value}")
    assert made.isascii() and made.endswith(" :;") and value in shown(made)


def test_ids_move_to_fields_of_other_names() -> None:
    """RFC 6857 3.1.10."""
    assert header_of("Message-ID: <\u00fc@b.example>").startswith("Downgraded-Message-ID: =?utf-8?b?")
    assert header_of("References: <a@b.example> (\u00fc)").startswith("References: <a@b.example> (=?utf-8?b?")


def test_received_loses_the_clauses_that_ascii_cannot_say() -> None:
    """RFC 6857 3.2.4."""
    made = header_of(
        "Received: from stra\u00dfe.example (h\u00f6st [1.2.3.4]) by mx.example with UTF8SMTP id a\u00fcb\n"
        "\tfor <\u00fc@b.example>; Mon, 1 Jan 2024 00:00:00 +0000"
    )
    assert made.startswith("Received: from xn--strae-oqa.example (=?utf-8?b?")
    assert made.endswith(" by mx.example with UTF8SMTP \n\t; Mon, 1 Jan 2024 00:00:00 +0000")


@pytest.mark.parametrize("name", ["f\u00fcr dich.pdf", '"f\u00fcr; \\"dich\\".pdf"', '"' + "\u00fc" * 100 + '"'])
def test_parameters_are_written_as_rfc_2231_says(name: str) -> None:
    made = header_of(f"Content-Disposition: attachment; size=3; filename={name}")
    parsed = email.message_from_string(made + "\n\n")
    assert (
        parsed.get_content_disposition() == "attachment"
        and parsed.get_param("size", header="content-disposition") == "3"
    )
    assert parsed.get_filename() == name.strip('"').replace("\\", "")
    assert max(map(len, made.split("\n"))) < 90


def test_a_parameter_that_is_there_in_ascii_too_is_not_doubled() -> None:
    given = "Content-Type: a/b; name=\"\u00fc\"; name*=utf-8''%C3%BC; \u00fc; \u00fc=1; x*=\u00fc"
    assert header_of(given) == "Content-Type: a/b; name*=utf-8''%C3%BC"


def test_headers_of_parts_and_of_messages_within_change_too() -> None:
    content = (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain; name=\u00fc\n\nk\u00f6rper\n"
        "--x\nContent-Type: message/rfc822\n\nSubject: \u00fc\n\ninnen \u00fc\n--x--\n"
    ).encode()
    made = surrogate.of(content)
    parts = list(email.message_from_bytes(made).walk())
    assert parts[1].get_filename() == "\u00fc" and shown(parts[3]["Subject"]) == "\u00fc"
    assert made.count("\u00f6".encode()) == 1 and made.count("\u00fc".encode()) == 1
    assert surrogate.of(made) is made


def test_what_is_no_field_is_left_out() -> None:
    made = surrogate.of(
        "Subject: gr\u00fc\u00dfe\nX\u00fc: y\nno field \u00fc\nTo: a@b.example\n\n".encode() + b"\xfc\n"
    )
    assert made == b"Subject: =?utf-8?b?Z3LDvMOfZQ==?=\nTo: a@b.example\n\n\xfc\n"


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: gr\xfc\xdfe\nno field \xfc\n\nbody\n",
        b"Subject: gr\xc3\xbc\xc3\x9fe\nX: \xfc\n\nbody\n",
        b"Subject: \xc3\xbc\nContent-Type: multipart/mixed; boundary=x\n\n--x\nX: \xfc\n\nbody\n--x--\n",
    ],
)
def test_a_header_that_is_no_utf_8_stays_as_it_is(content: bytes) -> None:
    assert surrogate.of(content) is content


def test_how_much_is_rewritten_is_bounded() -> None:
    field = "X: " + "\u00fc" * (surrogate.MOST // 2 - 100) + "\n"
    given = f"{field}Y: \u00fc\nZ: " + "\u00fc" * 200 + "\nW: z\n\n"
    assert surrogate.of(given.encode()).endswith(b"\nY: =?utf-8?b?w7w=?=\nW: z\n\n")
    long = "\u00fc@b.example, " * (ascii_fields.LONGEST // 10)
    assert header_of(f"To: {long}").isascii()


def test_spaces_between_encoded_words_are_within_them() -> None:
    assert encoded.unstructured("a =?utf-8?q?b?= \u00fc") == "a =?utf-8?q?b?= =?utf-8?b?IMO8?="
    assert encoded.unstructured("\u00fc =?utf-8?q?b?=") == "=?utf-8?b?w7wg?= =?utf-8?q?b?="
    assert max(map(len, encoded.words("\u20ac" * 500).split("\n"))) <= 76


@given(st.text(st.sampled_from('a_ \u00fc\u20ac\U0001f600\u0301\u200d=?"') | st.characters(exclude_categories=["C"])))
def test_a_text_in_words_reads_as_it_was(text: str) -> None:
    made = encoded.words(text)
    assert all(len(word) <= 75 for word in made.split()) and encoded.line(text).split() == made.split()
    for value in (made, encoded.line(text)):
        assert decode_value(value.encode("ascii")) == shown(value) == text


@given(
    st.text(
        st.sampled_from("a\u00fc\u20ac\U0001f600 \t,.=?") | st.characters(exclude_categories=["C", "Z"]), max_size=200
    )
)
def test_an_unstructured_text_reads_as_before(text: str) -> None:
    made = encoded.unstructured(text)
    assert made.isascii()
    if "=?" not in text:
        assert shown(made).split() == text.split()


names = st.sampled_from(["From", "To", "Subject", "Received", "Content-Type", "Content-Disposition", "Message-ID",
                         "Date", "Keywords", "List-Id", "X", "\u00fc", ""])  # fmt: skip
values = st.text(st.sampled_from('a\u00fc\u20ac "<>@()\\:;,.=*%[]\t\r\0'), max_size=60)


@given(st.lists(st.tuples(names, values), max_size=6), st.binary(max_size=40))
def test_every_header_becomes_ascii_and_no_body_changes(fields: list[tuple[str, str]], body: bytes) -> None:
    head = "".join(f"{name}:{value}\n" for name, value in fields).encode()
    made = surrogate.of(head + b"\n" + body)
    assert made.endswith(b"\n" + body)
    assert not surrogate.needs_utf8(made)
