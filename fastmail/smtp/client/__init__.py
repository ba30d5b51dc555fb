"""The sending side of SMTP and LMTP: one connection to one host (RFC 5321 3.3, 4.5.3.2, RFC 2033).

Extensions are used where the host offers them: STARTTLS (RFC 3207), AUTH (RFC 4954), PIPELINING (RFC 2920), SIZE
(RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING (RFC 3030), DSN (RFC 3461), REQUIRETLS (RFC 8689),
DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710).
"""

from fastmail.smtp.client.nouns import Sending, Sent, Target, Timeouts
from fastmail.smtp.client.replies import (
    ClientTrouble,
    ConnectFailed,
    Lost,
    NoChunking,
    ProtocolError,
    Reply,
    TlsFailed,
    Unsure,
)
from fastmail.smtp.client.session import SmtpClient
from fastmail.smtp.client.transaction import send

__all__ = [
    "ClientTrouble",
    "ConnectFailed",
    "Lost",
    "NoChunking",
    "ProtocolError",
    "Reply",
    "Sending",
    "Sent",
    "SmtpClient",
    "Target",
    "Timeouts",
    "TlsFailed",
    "Unsure",
    "send",
]
