"""What a client asks for with the parameters of MAIL and RCPT: one value each, from the command to the next host.

``EsmtpOptions`` goes from MAIL through the delivery and the queue to the client side, ``Rcpt`` from RCPT. Nobody on the
way takes them apart: whoever needs another value makes a new one with ``msgspec.structs.replace``.

    MAIL  SIZE (RFC 1870), BODY (RFC 6152, RFC 3030), SMTPUTF8 (RFC 6531), RET and ENVID (RFC 3461), HOLDFOR and
          HOLDUNTIL (RFC 4865), REQUIRETLS (RFC 8689), BY (RFC 2852), MT-PRIORITY (RFC 6710)
    RCPT  NOTIFY and ORCPT (RFC 3461, RFC 6533)

AUTH= (RFC 4954 5) is checked by smtp.envelope and not kept: this server vouches to other hosts for nobody.
"""

import msgspec

SEVEN_BIT, EIGHT_BIT, BINARY = "7BIT", "8BITMIME", "BINARYMIME"


class EsmtpOptions(msgspec.Struct, frozen=True):
    """The parameters of MAIL. Times are seconds since 1970, 0 for none.

    ``size`` and ``body`` are what the client announced of the content that it sends. They are of use until the content
    has come; the queue stores what it measured itself, and of these two nothing.
    """

    size: int = 0  # octets, 0 when the client did not say
    body: str = SEVEN_BIT
    utf8: bool = False  # SMTPUTF8
    ret: str = ""  # FULL or HDRS, empty for the default
    envid: str = ""  # decoded
    release: int = 0  # when the message may go out
    require_tls: bool = False
    by: int = 0  # until when the message is to be delivered
    by_mode: str = ""  # then N tells the sender and R returns the message; T after it asks for a trace
    priority: int = 0  # -9 to 9

    @property
    def returns(self) -> bool:
        """True if a message that was not delivered by ``by`` is returned (RFC 2852 4, mode R)."""
        return self.by_mode.startswith("R")

    def expired(self, now: float) -> bool:
        """True if the message has to be returned now, because its time of delivery is over."""
        return self.returns and self.by <= now


class Rcpt(msgspec.Struct, array_like=True, frozen=True):
    """One recipient and the parameters of its RCPT. The queue stores it as this array: new fields go to the end, and an
    older server takes no notice of them. ``orcpt`` is in the form of message.orcpt; ``notify`` is in capitals, words in
    alphabetical order with commas between, empty for the default."""

    address: str
    orcpt: str = ""
    notify: str = ""


NO_OPTIONS = EsmtpOptions()
