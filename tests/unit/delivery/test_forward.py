"""Who hears of the trouble that a forward has."""

from fastmail.delivery.forward import Told
from fastmail.message.dsn import Fate


def test_owners_hear_once_a_day() -> None:
    told, fate = Told(), Fate("x@far.test", "", "failed", "5.1.1", "no")
    assert told.news("a@d.test", [fate]) == [fate] and told.news("a@d.test", [fate]) == []
    assert told.news("b@d.test", [fate]) == [fate]
    assert told.news("c@d.test", [Fate("x@far.test", "", "delayed", "4.4.7", "no")]) == []
