"""Host names, addresses and ports of a configuration."""

import pytest

from fastmail.model.place import is_address


@pytest.mark.parametrize("text", ["192.0.2.1", "::1", "2001:db8::7", "::ffff:192.0.2.1"])
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["", "192.0.2", "192.0.2.1:25", "[::1]", "mail.test", "127.1", "1.2.3.4.5"])
def test_other_texts(text: str) -> None:
    assert not is_address(text)
