"""The local backend: Maildir++ directories and segments for the content; an LMDB index for fast access, which alone
decides UIDs and MODSEQ.
"""
