"""Compiled leaf: pure functions and small final classes over octets.

No socket, clock, event loop, LMDB or import from the rest of fastmail. One call covers a command, a block of
input or a page of index records. Each module has a ``.pyi`` beside it that says shapes, units and errors.
"""
