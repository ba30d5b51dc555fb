"""Reads the [oauth] section: which servers give out tokens. Tokens are checked in oauth."""

import os
import urllib.parse
from dataclasses import dataclass
from typing import Any

from fastmail.model import secret
from fastmail.model.errors import ConfigError

HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Settings:
    """``jwks``: a file or an https URL; ``introspection``: an http or https URL, asked with ``client`` and ``secret``;
    ``claim``: the name of the claim that has the address; ``scope``: what a token must allow; ``configuration``: told
    to clients whose token is refused; ``inside``: these servers may have private addresses."""

    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    introspection: str = ""
    client: str = ""
    secret: str = ""
    claim: str = "email"
    scope: str = ""
    configuration: str = ""
    inside: bool = False


def load(settings: Any, base: str) -> Settings:
    """Read the [oauth] section. ConfigError if it cannot work."""
    jwks, introspection, password = settings.jwks, settings.introspection, ""
    if jwks and introspection:
        raise ConfigError("jwks and introspection: give one of them")
    if jwks and not jwks.startswith("https:"):
        if "://" in jwks:
            raise ConfigError("jwks must be a file or an https URL")
        jwks = os.path.join(base, jwks)
    if introspection and not introspection.startswith(("https://", "http://")):
        raise ConfigError("introspection must be a URL")
    if introspection.startswith("http://"):
        host = urllib.parse.urlsplit(introspection).hostname
        if host not in HERE:
            raise ConfigError("introspection without TLS is for this machine only: use https")
    if settings.client_secret_file:
        try:
            password = secret.read(os.path.join(base, settings.client_secret_file)).strip()
        except OSError as error:
            raise ConfigError(f"client_secret_file: {error.strerror}") from None
    return Settings(
        settings.issuer,
        settings.audience,
        jwks,
        introspection,
        settings.client,
        password,
        settings.claim,
        settings.scope,
        settings.openid_configuration,
        settings.private_servers,
    )
