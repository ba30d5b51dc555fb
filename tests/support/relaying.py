"""Everything that mail to other servers needs, put together over one spool."""

from collections.abc import Callable

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.history import History
from fastmail.delivery.lists.one_click import OneClick
from fastmail.delivery.reports import Reports
from fastmail.delivery.submission import Submission
from fastmail.policy.sealing import Sealer
from fastmail.policy.signer import Signer
from fastmail.queue.bounds import Bounds
from fastmail.queue.routes import Destinations, Routes
from fastmail.queue.schedule import Schedule, Schedules
from fastmail.queue.spool import Spool
from fastmail.relay.runner import Limits, Runner
from fastmail.relay.suspicion import Watch
from fastmail.relay.targets import Finder

HOSTNAME = "mx.example.test"


class Outward:
    """The way out of a server whose domain is example.test."""

    def __init__(
        self,
        spool: Spool,
        routes: Routes,
        schedule: Schedule,
        history: History,
        messages: int = 1000,
        deliverer: Deliverer | None = None,
        is_local: Callable[[str], bool] = lambda domain: domain == "example.test",
    ) -> None:
        self.spool = spool
        self.routes = routes
        self.history = history
        self.bounds = Bounds(messages)
        self.destinations = Destinations(routes, is_local)
        self.schedules = Schedules(routes, schedule)
        self.reports = Reports(spool, schedule, HOSTNAME, self.bounds, self.destinations.of, history)
        self.submission = Submission(spool, routes, HOSTNAME, self.bounds, self.reports, history, deliverer)
        self.signer: Signer | None = None
        self.sealer: Sealer | None = None
        self.watch: Watch | None = None
        self.one_click: OneClick | None = None

    def sign_with(self, signer: Signer, seals: str = "") -> None:
        """Sign from now on; ``seals``: the domain that seals what is forwarded by runners that are made later."""
        self.signer = self.submission._signer = self.reports._signer = signer
        self.sealer = Sealer(signer, HOSTNAME, seals) if seals else None

    def runner(self, finder: Finder, deliverer: Deliverer, limits: Limits) -> Runner:
        return Runner(
            self.spool,
            self.destinations,
            self.schedules,
            self.reports,
            self.history,
            deliverer,
            finder,
            HOSTNAME,
            limits,
            self.signer,
            self.sealer,
            self.watch,
            self.one_click,
        )
