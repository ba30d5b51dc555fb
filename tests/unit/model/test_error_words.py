"""What people read of an error."""

import errno
import ssl

import pytest

from fastmail.model.errors import in_words


@pytest.mark.parametrize(
    ("error", "known", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connection refused"), "", "Connection refused"),
        (OSError(errno.ENOENT, "No such file or directory", "/a/b"), "", "/a/b: No such file or directory"),
        (OSError(errno.ENOENT, "No such file or directory", b"/a/b"), "", "/a/b: No such file or directory"),
        (OSError(errno.ENOENT, "No such file or directory", b"/a/b"), "/a/b", "No such file or directory"),
        (OSError("timed out"), "", "timed out"),
        (ValueError("no PEM"), "", "no PEM"),
        (TimeoutError(), "", "TimeoutError"),
        (ssl.SSLError(9, "[SSL] PEM lib"), "", "[SSL] PEM lib"),
    ],
)
def test_of_the_system(error: Exception, known: str, words: str) -> None:
    assert in_words(error, known) == words
