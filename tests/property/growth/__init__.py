"""Tables of what a stranger can make long: a module for each part of the server, each with ``CASES``.

See tests.support.growth.Case. A case that a whole kind stands behind is worth one; the inputs are the nastiest known:
many opening brackets, many separators, much white space, words that nearly match.
"""
