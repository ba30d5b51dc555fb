"""pytest-benchmark for what a member's copy of a list's message costs: its link, and the signature that covers it.

``python -m pytest benchmarks/micro/test_lists.py -o addopts= --benchmark-only``. The sizes are in the names.
"""

from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.lists.content import made
from fastmail.delivery.lists.one_click import OneClick
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List
from fastmail.policy.signer import Signer
from fastmail.queue.model import Item
from tests.support.signing import MESSAGE, keyed

CREW, YOU = "crew@example.test", "you@far.test"
LINE = b"A line of text such as people write to mailing lists, not too long.\n"


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("lines", [60, 1500], ids=["4k", "100k"])
def test_copy(benchmark: Any, tmp_path: Path, lines: int, signed: bool) -> None:
    place = MemoryDirectory()
    place.add_domain("example.test")
    keyed(place, tmp_path)
    signer = Signer(place, str(tmp_path))
    one_click = OneClick("https://lists.example.test", Links(place), signer)
    one_click.prepare()
    text = signer.again("example.test")(made(List(CREW), MESSAGE + LINE * lines, False))
    item = Item(1, "", 0, len(text), mailing_list=CREW, signed="example.test" if signed else "")
    copies = one_click.copies(item, text)
    assert benchmark(lambda: copies.whole(YOU))


def test_read_a_link(benchmark: Any) -> None:
    links = Links(MemoryDirectory())
    links.prepare()
    token = links.token(CREW, YOU)
    assert benchmark(lambda: links.read(token)) == (CREW, YOU)
