"""Types of the sending side: what it is asked to do, and the results (RFC 5321 3.3, 4.5.3.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt
from fastmail.smtp.client.replies import Reply


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to. ``tls``: "none", "may", "encrypt" (without looking at the certificate), "verify", "dane"
    (``prove`` looks at it), or "implicit" (from the first octet, verified unless ``insecure``). ``prove``: why a chain
    of certificates (DER) does not do, or empty. ``policy``: where ``tls`` comes from, as RFC 8460 4.2 names it.
    ``route``: the administrator named it, not the DNS. ``testing``: a certificate that does not do is reported, and
    the mail is sent all the same (RFC 8461 5)."""

    name: str
    address: str
    port: int = 25
    lmtp: bool = False
    tls: str = "may"
    insecure: bool = False
    login: str = ""
    password: str = ""
    prove: Callable[[list[bytes]], str] | None = None
    policy: str = ""
    route: bool = False
    testing: bool = False

    @property
    def shown(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}" if not self.address.startswith("/") else self.address


@dataclass(slots=True)
class Timeouts:
    """Seconds; RFC 5321 4.5.3.2."""

    connect: float = 30.0
    command: float = 300.0
    data: float = 600.0


@dataclass(slots=True)
class Sending:
    """One message for one host. ``options``: the parameters of the MAIL that it came with; each is handed on where the
    host knows it, SMTPUTF8 where an address or a header needs it (RFC 6531 3.4). ``size``: octets with CRLF; ``eight``:
    some of them have the eighth bit. ``anew``: signs the message (LF) again on a helper thread, once its octets had to
    change."""

    sender: str
    recipients: Sequence[Rcpt]
    content: bytes
    size: int
    eight: bool = False
    options: EsmtpOptions = NO_OPTIONS
    anew: Callable[[bytes], bytes] | None = None


@dataclass(slots=True)
class Sent:
    """A Reply for each recipient; ``dsn``, ``by``: did the host take over what was asked about notifications, and
    about the time of delivery? ``unable``: it was not asked, because it lacks what the message needs: another host may
    have it. ``whole``: the replies are about the message (MAIL, DATA, the content), not about single recipients."""

    replies: list[Reply] = field(default_factory=list)
    dsn: bool = False
    by: bool = False
    unable: bool = False
    whole: bool = False
