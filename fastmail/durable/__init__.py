"""Durable writes: LMDB environments, the group commit, the journal, batches of file work. No other package opens LMDB
or calls fsync.
"""
