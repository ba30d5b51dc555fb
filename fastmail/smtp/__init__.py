"""SMTP as MX and for submission, and LMTP: one session class over one command table."""
