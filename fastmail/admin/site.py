"""The web application (ASGI): which function answers which path, and what is answered where there is none."""

from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastmail.admin.pages import page, paragraph
from fastmail.admin.unsubscribe import Unsubscribing, not_valid
from fastmail.delivery.lists.one_click import PATH
from fastmail.directory.interface import Directory
from fastmail.directory.list_links import Links


def application(directory: Directory, url: str = "") -> Starlette:
    """Return the application. ``url``: how the outside reaches it; where that has a path, the paths are served below it
    too, because some proxies pass it on and some take it off."""
    leaving = Unsubscribing(directory, Links(directory))
    below = urlsplit(url).path
    places = dict.fromkeys((f"{PATH}{{token}}", f"{below}{PATH}{{token}}"))
    made = Starlette(
        routes=[Route(place, leaving.route, methods=["GET", "POST"]) for place in places],
        exception_handlers={404: _not_there, 405: _not_so, 500: _failed},
    )
    made.router.redirect_slashes = False  # a redirected POST may become a GET (RFC 8058 3.1)
    return made


async def _not_there(request: Request, error: Exception) -> Response:
    return not_valid()


async def _not_so(request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return page("This cannot be done here", paragraph("Open the link, or post to it."), status=405, headers=headers)


async def _failed(request: Request, error: Exception) -> Response:
    return page("The server failed", paragraph("It has noted why. Please try again later."), status=500)
