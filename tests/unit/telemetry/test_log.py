"""Log lines that no peer can forge."""

import io
import json
import os
from contextlib import redirect_stderr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.telemetry import counters, log


def test_values_are_escaped_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("text", "info")
    log.event("x", helo='a\r\nevent=forged "q" \x1b[31m', long="y" * 5000, none=None, raw=b"\xff")
    log.event("hidden", "debug")
    out = capsys.readouterr().err
    assert out.count("\n") == 1 and "\x1b" not in out and len(out) < 500 and "hidden" not in out and "none" not in out
    log.setup("json", "info")
    log.event("x", n=3, text="a\nb")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["n"], line["text"]) == ("x", 3, "a\nb")
    log.setup()


def test_counters() -> None:
    before = counters.snapshot().get("t", 0)
    counters.count("t")
    counters.count("t", 2)
    assert counters.snapshot()["t"] == before + 3


VALUES = st.one_of(st.text(max_size=400), st.text('aB=" \\~!', max_size=325), st.integers(), st.booleans(), st.binary())


@given(st.lists(VALUES, max_size=4))
def test_a_line_says_each_value_bare_or_as_json(values: list[object]) -> None:
    """Against the plain rule: bare where all of it can be seen and nothing needs quotes, otherwise a JSON string."""
    log.setup("text", "info")
    with redirect_stderr(io.StringIO()) as out:
        log.event("x", **{f"k{n}": value for n, value in enumerate(values)})
    parts = []
    for n, value in enumerate(values):
        text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))[: log.LONGEST]
        bare = text and text.isprintable() and not set(text) & set('" =\\')
        parts.append(f" k{n}={text if bare else json.dumps(text)}")
    assert out.getvalue().partition(f" pid={os.getpid()}")[2] == "".join(parts) + "\n"
