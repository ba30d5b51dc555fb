"""Dovecot and Courier: reading and writing their files, serving a Maildir together with Dovecot, and going back to
them.
"""
