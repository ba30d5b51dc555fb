"""POP3: one session over a frozen view of INBOX."""
