"""What somebody perhaps meant who wrote a name that is not known."""

from collections.abc import Sequence


def meant(word: str, known: Sequence[str]) -> str:
    """Return the end of an error about ``word``: the name that is most like it, or else all that are ``known``."""
    import difflib  # when something is wrong only: commands start sooner

    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
