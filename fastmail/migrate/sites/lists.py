"""What becomes of a distribution list: the one place that says it.

A list is an alias with its members as targets. Who may write to it can be said in one way only: everybody, or those who
are logged in as an account of its domain. So a list that was narrower than "everybody" gets the second, which lets in
nobody from outside, and the report names it.
"""

from fastmail.migrate.sites.model import EVERYBODY, SiteAlias, SiteList


def as_alias(one: SiteList) -> tuple[SiteAlias, str]:
    """The alias, and what is to be said of it."""
    closed = one.writers != EVERYBODY
    say = f"an alias with {len(one.members)} members"
    if closed:
        say += f"; there {one.writers} may write to it, here logins of its domain"
    return SiteAlias(one.address, one.members, one.enabled, internal=closed, note=one.name), say
