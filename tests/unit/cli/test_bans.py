"""``fastmail bans``: networks that are kept out and let in again."""

from tests.unit.cli.place import Place


def test_a_network_is_banned_and_let_in_again(place: Place) -> None:
    assert place.rows("bans", "list") == []
    said = place.run("bans", "add", "192.0.2.7", "--for", "2h", "--why", "a test")
    assert said.startswith("192.0.2.7 is banned until 2")
    place.run("bans", "add", "2001:db8::/64")
    first, second = place.rows("bans", "list")
    assert {first["network"], second["network"]} == {"192.0.2.7", "2001:db8::/64"}
    banned = first if first["network"] == "192.0.2.7" else second
    assert banned["why"] == "a test" and 7100 < banned["seconds"] <= 7200 and banned["since"] < banned["until"]
    assert place.run("bans", "remove", "192.0.2.7") == "1 ban lifted\n"
    place.run("bans", "remove", "192.0.2.7", code=1)
    assert place.run("bans", "remove", "all") == "1 ban lifted\n" and place.rows("bans", "list") == []


def test_what_is_no_network_or_time_is_refused(place: Place) -> None:
    place.run("bans", "add", "somewhere", code=2)
    place.run("bans", "add", "192.0.2.0/33", code=2)
    place.run("bans", "remove", "somewhere", code=2)
    assert "--for" in place.run("bans", "add", "192.0.2.1", "--for", "soon", code=2)
    assert place.rows("bans", "list") == []
