"""A store in memory, for tests: the plainest implementation of store.interface."""
