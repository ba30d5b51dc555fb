"""A word in front of a subject: encoded words, folding, several fields, none."""

import email
import email.policy

import pytest

from fastmail.message import subject


def tagged(content: bytes, tag: str) -> bytes:
    out, at = b"", 0
    for start, end, text in subject.edits(content, tag):
        out += content[at:start] + text
        at = end
    return out + content[at:]


def shown(content: bytes) -> str:
    return str(email.message_from_bytes(content, policy=email.policy.default)["Subject"])


REST = b"From: a@b.test\n\nSubject: of the text\n"
ENCODED = "=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?b?IGF1cyBL9mxu?="


@pytest.mark.parametrize("tag", ["[SPAM]", "***", "[Spam\u00e9]"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" dinner", "dinner"),
        ("dinner", "dinner"),
        ("\tdinner", "dinner"),
        (f" {ENCODED}", "Gr\u00fc\u00dfe aus K\u00f6ln"),
        (f" {ENCODED} (late)", "Gr\u00fc\u00dfe aus K\u00f6ln (late)"),
        (f"\n {ENCODED}", "Gr\u00fc\u00dfe aus K\u00f6ln"),
        (" " + "a word " * 11 + "end", "a word " * 11 + "end"),
        (" one\n two", "one two"),
        (f" Re: {ENCODED}", "Re: Gr\u00fc\u00dfe aus K\u00f6ln"),
    ],
)
def test_the_subject_reads_as_before(tag: str, value: str, text: str) -> None:
    made = tagged(b"To: c\nSUBJECT:" + value.encode() + b"\n" + REST, tag)
    assert " ".join(shown(made).split()) == f"{tag} {text}"
    assert made.endswith(value.encode() + b"\n" + REST) and made.startswith(b"To: c\nSUBJECT: ")
    assert max(map(len, made.split(b"\n"))) <= max(subject.LINE, len(value) + 9)
    assert tagged(made, tag) == made, "once is enough"


@pytest.mark.parametrize("tag", ["[SPAM]", "\u00fc"])
def test_a_message_without_a_subject_gets_one(tag: str) -> None:
    assert shown(tagged(REST, tag)) == tag
    assert shown(tagged(b"Subject:\n" + REST, tag)).strip() == tag
    assert tagged(b"", tag).startswith(b"Subject: ")


def test_every_one_of_several_subjects_is_tagged() -> None:
    made = tagged(b"Subject: one\nX-Subject: two\nsubject : three\n" + REST, "[SPAM]")
    assert made == b"Subject: [SPAM] one\nX-Subject: two\nsubject : [SPAM] three\n" + REST


def test_raw_octets_stay() -> None:
    made = tagged("Subject: Gr\u00fc\u00dfe\n".encode() + b"Subject: \xff\xfe\n" + REST, "[SPAM]")
    assert made == "Subject: [SPAM] Gr\u00fc\u00dfe\n".encode() + b"Subject: [SPAM] \xff\xfe\n" + REST


@pytest.mark.parametrize(
    ("tag", "good"),
    [("[SPAM]", True), ("\u00fc", True), ("a\nb", False), (" a", False), ("x" * 41, False), ("\u00fc" * 21, False), ("=?x", False)],
)  # fmt: skip
def test_what_may_be_a_tag(tag: str, good: bool) -> None:
    assert subject.valid(tag) is good
