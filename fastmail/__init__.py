"""fastmail: SMTP, LMTP, IMAP and POP3 over a Maildir with a compiled core and an LMDB index."""

__version__ = "0.1.0"
