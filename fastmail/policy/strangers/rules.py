"""What strangers may do at port 25 ([strangers] of the configuration), as the parts that see to it read it."""

from dataclasses import dataclass

OFF, SCORE, REFUSE, BAN = "off", "score", "refuse", "ban"
CONNECTIONS, MESSAGES = "connections", "messages"
# whose connections or messages are counted together
CLIENT, NETWORK, SENDER, RECIPIENT = "client", "network", "sender", "recipient"
RATES = {CONNECTIONS: (CLIENT, NETWORK), MESSAGES: (CLIENT, NETWORK, SENDER, RECIPIENT)}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``most`` connections or messages (``what``) in a clock hour of each ``by``."""

    what: str
    by: str
    most: int


@dataclass(frozen=True, slots=True)
class Rules:
    """``wait``: s before the greeting of a client without a good past, 0 for none; ``early``: what becomes of one that
    speaks before it should (off, score, refuse); ``guesses``: unknown recipients in an hour from which a client is a
    guesser, 0 for never; ``guessers``: what becomes of it (score, refuse, ban); ``in_message``: unknown recipients
    of one transaction, 0 for any number; ``tarpit``: s until an error reply is sent to a client without a good past, 0
    for none, for ``held`` sessions of a worker at once."""

    wait: float = 0.0
    early: str = SCORE
    guesses: int = 0
    guessers: str = SCORE
    in_message: int = 0
    tarpit: float = 0.0
    held: int = 200
    rates: tuple[Rate, ...] = ()

    @property
    def any(self) -> bool:
        """Is anything asked for? ``early`` alone counts only with a wait."""
        return bool(self.wait or self.guesses or self.in_message or self.tarpit or self.rates)

    @property
    def remembers(self) -> bool:
        """Does it matter who sent good mail before?"""
        return bool(self.wait or self.tarpit)


def rate(text: str) -> Rate:
    """A rate as the configuration has it; ValueError says what is wrong."""
    words = text.split()
    if len(words) != 3 or words[1] not in RATES.get(words[0], ()) or not words[2].isdecimal() or int(words[2]) < 1:
        raise ValueError(
            f'{text!r} is no rate: write WHAT BY MOST, such as "connections client 600", with connections by client or '
            "network, messages by client, network, sender or recipient"
        )
    return Rate(words[0], words[1], int(words[2]))
