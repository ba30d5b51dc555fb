"""Dovecot and Courier: their files, a Maildir that Dovecot serves at the same time, and the way back to them."""
