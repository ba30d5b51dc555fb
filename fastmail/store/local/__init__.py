"""The local backend: a Maildir++ in place, an LMDB index as accelerator and authority for UID and MODSEQ."""
