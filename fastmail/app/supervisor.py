"""The supervisor: binds the ports, drops privileges, runs the workers and starts a new one when one dies.

Each TCP port has one SO_REUSEPORT socket for each worker, kept open here: what waits on the socket of a worker that
died is served by its successor. Mail from other servers is taken by few workers: one that gets ten messages at once
syncs them together, two that get five each wait for each other's syncs. Above a share of sessions such a worker hands
connections over to others (net.handover).

One server to a data directory, by a lock that dies with the process. A worker that dies at once is restarted more and
more slowly, so a broken machine is not kept busy; meanwhile those who connect to it hear "not now", and when none comes
up in TRIES tries, the server ends with an error. Why they do not start is told once. Where what a worker read may have
ended it, a process looks through the index files beside the others; a damaged one is rebuilt (app.heal) while no worker
runs, and then all start again. The keeper (app.keeper) starts before the first worker and ends after the last one.
"""

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from fastmail.app import heal, keeper, owner, ports, preload, refuse, worker
from fastmail.app.derived import make_tls, users_of
from fastmail.app.keyholder import KeyHolder
from fastmail.app.webprocess import WebProcess
from fastmail.config import certificate
from fastmail.config.settings import Config
from fastmail.durable import staging
from fastmail.durable.errors import is_full
from fastmail.durable.replace import replace_file
from fastmail.model.errors import ConfigError, CorruptData, StorageFull, in_words
from fastmail.net.handover import AWAY, Exchange
from fastmail.net.tls import FIRST_OF_MORE, ServerTls
from fastmail.telemetry import log

STOP_AFTER = 12.0  # s until children that do not stop are killed; more than a worker's GRACE
LOOK_AGAIN = 300.0  # s after which index files that were sound are looked at again
AGAIN_AND_AGAIN = 1.0  # s that a worker waits who died soon each time: then damage may be why
STOPS = (signal.SIGTERM, signal.SIGKILL)
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
SOUND, DAMAGED, HOPELESS = 0, 3, 4  # how a process ends that looked at index files
TRIES = 8  # to start a worker, when none comes up: 13 s
REASON = 16384  # octets of why a worker did not start


class Supervisor:
    """``run`` returns the exit code when all workers have ended. ``free_ports``: where a port is taken, the next free
    one is used instead, in the configuration too."""

    def __init__(self, config: Config, ready: Callable[[], None] = lambda: None, free_ports: bool = False) -> None:
        self._config = config
        self._say_ready = ready
        self._free_ports = free_ports
        self.moved: list[str] = []  # a sentence for each port that was taken, once ports are bound
        self._started: dict[int, int] = {}  # by process id: a pipe that says that it serves, or why not
        self._serving: set[int] = set()  # numbers of workers that do
        self._failures = [0] * self._count_of(config)  # starts of each that failed since it served last
        self._reasons: set[str] = set()
        self._holder: KeyHolder | None = None
        self._announced = False
        self._count = self._count_of(config)
        self._delivering = min(config.server.delivery_workers or (self._count + 3) // 4, self._count)
        # which workers help those that take mail; an administrator who says how many take mail gets exactly those
        helped = not config.server.delivery_workers and self._delivering < self._count
        self._exchange = Exchange(self._count, self._delivering) if helped else None
        self._instance = secrets.token_hex(4)
        self._sockets: list[list[tuple[str, socket.socket]]] = [[] for _ in range(self._count)]
        self._children: dict[int, tuple[int, float]] = {}
        self._delays: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._stopping = False
        self._lock = -1
        self._places: list[str] = []  # directories that the server changes
        self._doctor = 0  # the process that looks at index files, or mends them
        self._looked = -LOOK_AGAIN
        self._keeper = 0  # the process that takes checkpoints
        self._keeper_says = -1  # a pipe on which it says that the environments are open
        self._keeper_due = 0.0  # when it is started
        self._open = False  # are they?
        self._untold = False  # a worker died, and perhaps no keeper noted it
        self._web = WebProcess(config)
        self._pausing = False  # workers are to end, so that an index file can be rebuilt
        self._failed = 0

    @staticmethod
    def _count_of(config: Config) -> int:
        return config.server.workers or len(os.sched_getaffinity(0))

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. ``ready`` is called once, when every worker serves."""
        self._prepare()
        tls = make_tls(self._config)
        self._web.load_certificate()
        for one in (tls, self._web.tls):
            if one is not None:  # workers may write nowhere else
                one.scratch = os.path.join(self._config.server.data_dir, "staging")
        for path, why in certificate.faults(self._config):
            log.event("tls.certificate", "error", why=why, path=path)
        self._bind()
        self._drop_privileges(tls)
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self._due = dict.fromkeys(range(self._count), 0.0)
        if heal.unfinished(self._config):
            self._begin(self._finish)
        deadline = 0.0
        while self._lives or ((self._due or self._pausing) and not self._stopping):
            found = signal.sigtimedwait(signals, 0.2 if self._open else 0.02)
            if found is not None and found.si_signo in (signal.SIGTERM, signal.SIGINT):
                if not self._stopping:
                    log.event("stopping")
                    self._stopping = True
                    deadline = time.monotonic() + STOP_AFTER
                self._send(signal.SIGTERM)
            elif found is not None and found.si_signo in (signal.SIGHUP, signal.SIGUSR1):
                for one in (tls, self._web.tls):
                    if found.si_signo == signal.SIGHUP and one is not None:
                        self._reload(one)
                self._send(signal.Signals(found.si_signo))
            was_pausing = self._pausing
            self._listen_to_workers()
            self._reap()
            self._keep()
            if self._open and self._web.is_due and not (self._stopping or self._pausing):
                key = self._holder.content if self._holder is not None else None
                self._web.start(self._be_child, self._close_sockets, key)
            self._refuse()
            if self._pausing and not was_pausing:
                deadline = time.monotonic() + STOP_AFTER
                self._send(signal.SIGTERM)
            if (self._stopping or self._pausing) and time.monotonic() > deadline:
                self._send(signal.SIGKILL)
                if self._keeper and time.monotonic() > deadline + STOP_AFTER:
                    os.kill(self._keeper, signal.SIGKILL)
            if self._pausing and not self._lives and not self._stopping:
                self._begin(self._restore)
            if self._pausing or not self._open:
                continue
            for number in [n for n, at in self._due.items() if at <= time.monotonic()]:
                del self._due[number]
                if not self._stopping:
                    self._spawn(number, tls)
        for name in ("instance", "pid"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._config.server.run_dir, name))
        log.event("stopped")
        return self._failed

    @property
    def _lives(self) -> bool:
        """True while any process of the server runs, the key holder's apart."""
        return bool(self._children or self._doctor or self._keeper or self._web.pid)

    def _prepare(self) -> None:
        """Create the directories and the files in them. Where the server's user may have planted links, only that
        user's rights are used, so links lead root nowhere."""
        server = self._config.server
        os.umask(0o077)
        try:
            self._places = owner.prepare(self._config)
            who = owner.root_for(self._config)
            with owner.acting(who):
                if who is not None:
                    owner.refuse_closed(self._config, self._places)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._lock = os.open(os.path.join(server.run_dir, "lock"), flags, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                why = owner.open_to_all(server.data_dir)
                if why:
                    log.event("data.open", "warning", why=why)
                staging.clean(os.path.join(server.data_dir, "staging"))
                for name, text in (("instance", self._instance), ("pid", str(os.getpid()))):
                    replace_file(os.path.join(server.run_dir, name), text.encode("ascii"))
        except BlockingIOError:
            raise ConfigError(f"another server runs on {server.data_dir}; stop it first") from None
        except OSError as error:
            kind = StorageFull if is_full(error) else ConfigError
            raise kind(f"cannot use {server.data_dir}: {in_words(error, server.data_dir)}") from None

    def _bind(self) -> None:
        users_of(self._config.listen.unix_users)
        mode = 0o666 if self._config.listen.unix_users else 0o660  # peers are asked who they are
        who = owner.root_for(self._config)
        self._sockets, self.moved = ports.bind_all(
            self._config.listen, self._count, self._delivering, mode, who, self._free_ports
        )
        self._web.bind(mode, who)
        if not any(self._sockets):
            raise ConfigError(f"{self._config.path}: [listen] names no address, so there is nothing to serve")

    def _drop_privileges(self, tls: ServerTls | None) -> None:
        """Become the server's user, with all that is needed as root done before: modules, ownership, the key."""
        if owner.user_of(self._config) is None:
            return
        followed = any(one.sql or one.ldap for one in (self._config.directory, *self._config.source))
        preload.everything(followed, bool(self._config.web.listen))
        if tls is not None and os.geteuid() == 0:
            self._holder = KeyHolder(tls.files, owner.root_for(self._config), FIRST_OF_MORE)
        listen = self._config.listen
        sockets = [
            place[5:] for name in ports.PROTOCOLS for place in getattr(listen, name) if place.startswith("unix:")
        ]
        owner.drop(self._config, self._places, [*sockets, *self._web.unix_sockets])

    def _reload(self, tls: ServerTls) -> None:
        """The files' new content; workers take it when they hear the signal."""
        try:
            if self._holder is not None:
                self._holder.refresh()
                tls.source = self._holder.content
            tls.reload()
        except (ConfigError, OSError) as error:
            log.event("tls.reload", "error", error=error, then="the old certificate stays in use")

    def _spawn(self, number: int, tls: ServerTls | None) -> None:
        mine = os.getpid()
        hears, says = os.pipe()
        pid = os.fork()
        if pid:
            os.close(says)
            os.set_blocking(hears, False)
            self._children[pid] = (number, time.monotonic())
            self._started[pid] = hears
            return

        def serve() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            for other in range(self._count):
                if other != number:
                    for _, sock in self._sockets[other]:
                        if sock.family != socket.AF_UNIX:
                            sock.close()
            self._web.close_sockets()
            if self._exchange is not None:
                self._exchange.close(but_for=number)
            if self._holder is not None and tls is not None:
                tls.source = self._holder.content
            serving = worker.Serving(number, self._count, mine, says, self._exchange)
            worker.run(self._config, serving, self._instance, self._sockets[number], tls)

        self._be_child(hears, says, serve)

    def _be_child(self, hears: int, says: int, work: Callable[[], None]) -> NoReturn:
        """In a new process: release what belongs to the supervisor, do the work and exit. If the work fails, the reason
        is written to the pipe."""
        code, why = 1, ""
        try:
            os.close(self._lock)
            for pipe in (hears, *self._started.values()):
                os.close(pipe)
            if self._holder is not None:
                self._holder.left_to_child()
            work()
            code = 0
        except ConfigError as error:
            why = str(error)
        except BaseException:
            why = traceback.format_exc()
        finally:
            with contextlib.suppress(OSError):
                if why:
                    os.write(says, why.encode("utf-8", "replace")[-REASON:])
            sys.stderr.flush()
            os._exit(code)

    def _keep(self) -> None:
        """Start the keeper, which ends after the workers."""
        if self._keeper and not self._open:
            with contextlib.suppress(OSError):
                self._hear_keeper()
        ending = self._stopping or self._pausing
        if self._keeper and ending and not self._children:
            os.kill(self._keeper, signal.SIGTERM)
        if self._keeper or ending or (self._doctor and self._pausing) or time.monotonic() < self._keeper_due:
            return
        mine = os.getpid()
        hears, says = os.pipe()
        self._keeper = os.fork()
        if self._keeper:
            os.close(says)
            os.set_blocking(hears, False)
            if self._untold:
                self._have_noted()
            self._keeper_says = hears
            self._keeper_due = time.monotonic() + AGAIN_AND_AGAIN
            return

        def keep() -> None:
            self._close_sockets()
            self._web.close_sockets()
            try:
                keeper.run(self._config, mine, says)
            except CorruptData as error:
                log.event("keeper.corrupt", "error", error=error)
                os._exit(worker.PANIC)
            except OSError as error:
                raise ConfigError(in_words(error)) from error  # for people, as it is

        self._be_child(hears, says, keep)

    def _have_noted(self) -> None:
        """Have the keeper note that a worker has died. The signal waits until the keeper listens."""
        self._untold = not self._keeper
        if self._keeper:
            os.kill(self._keeper, keeper.DIED)

    def _hear_keeper(self) -> None:
        """Read what the keeper says: that all environments are open, or why not."""
        said = os.read(self._keeper_says, REASON)
        if said.startswith(keeper.READY):
            self._open, said = True, said[len(keeper.READY) :]
        if said:
            self._tell("keeper.failed", said)

    def _close_sockets(self) -> None:
        """Close the sockets in a child that serves no mail."""
        if self._exchange is not None:
            self._exchange.close()
        for _, sock in [pair for mine in self._sockets for pair in mine]:
            if sock.fileno() >= 0:
                os.close(sock.detach())

    def _keeper_ended(self, status: int) -> None:
        with contextlib.suppress(OSError):
            self._hear_keeper()  # its last words
        os.close(self._keeper_says)
        self._keeper, code = 0, os.waitstatus_to_exitcode(status)
        if self._stopping or self._pausing:
            return
        log.event("keeper.died", "error", status=status)
        self._untold = True  # a worker may have died with it, before it could note that
        if code == worker.PANIC and not self._doctor and time.monotonic() - self._looked > LOOK_AGAIN:
            self._begin(self._look)
        if not self._open:
            self._failures = [count + 1 for count in self._failures]

    def _listen_to_workers(self) -> None:
        """Read which workers serve now, and why others do not. Each reason is logged once."""
        for pid, pipe in list(self._started.items()):
            said = b""
            with contextlib.suppress(OSError):
                said = os.read(pipe, REASON)
            number = self._children.get(pid, (-1, 0.0))[0]
            if said.startswith(worker.SERVES):
                said = said[len(worker.SERVES) :]
                self._serving.add(number)
                self._failures[number] = 0
            if said:
                self._tell("worker.failed", said, worker=number)
        if len(self._serving) == self._count and not self._announced:
            self._announced = True
            log.event("ready", workers=self._count, hostname=self._config.server.hostname, pid_of="supervisor")
            self._say_ready()

    def _tell(self, event: str, said: bytes, **more: int) -> None:
        """Why a process did not start, each reason once."""
        why = said.decode("utf-8", "replace").strip()
        if why and why not in self._reasons and len(self._reasons) < 100:
            self._reasons.add(why)
            log.event(event, "error", **more, why=why.splitlines()[-1])
            if "\n" in why:
                print(why, file=sys.stderr, flush=True)

    def _refuse(self) -> None:
        """Refuse connections while workers do not come up, and give up if none does."""
        for number in self._due:
            if not self._failures[number]:
                continue  # it served until a moment ago: its successor serves those who wait
            for protocol, sock in self._sockets[number]:
                if sock.family != socket.AF_UNIX or not self._serving:
                    refuse.waiting(protocol, sock, self._config.server.hostname)
        if min(self._failures) >= TRIES and not (self._doctor or self._pausing or self._stopping):
            log.event("gave.up", "error", why="no worker can start", tries=TRIES)
            self._stopping, self._failed = True, 1
            self._due.clear()
            self._send(signal.SIGTERM)

    def _send(self, which: signal.Signals) -> None:
        doctor = [self._doctor] if self._doctor and self._stopping and which in STOPS else []
        web = [self._web.pid] if self._web.pid else []
        for pid in [*self._children, *doctor, *web]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)

    # ---------------------------------------------------------------- index files

    def _begin(self, what: Callable[[], int]) -> None:
        """Run a function in a process of its own."""
        self._looked = time.monotonic()
        self._doctor = os.fork()
        if self._doctor:
            return
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._close_sockets()
            self._web.close_sockets()
            if what != self._restore:  # that one keeps the next server out until it is done, whatever becomes of us
                os.close(self._lock)
            code = what()
        except ConfigError as error:
            log.event("index.lost", "error", why=error)
            code = HOPELESS
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _look(self) -> int:
        found = heal.damaged(self._config)
        for place, one in found:
            log.event("index.damaged", "error", path=place.path, damage=one.damage[:5], rows=one.rows)
        return DAMAGED if found else SOUND

    def _restore(self) -> int:
        for place, one in heal.restore(self._config):
            log.event("index.salvaged", "warning", path=place.path, rows=one.rows, hurt=sorted(one.hurt))
        return SOUND

    def _finish(self) -> int:
        heal.finish_in_background(self._config)
        return SOUND

    def _hear(self, code: int) -> None:
        """Read the result of that process from its exit code."""
        if self._pausing and code == HOPELESS:
            self._stopping, self._failed = True, 1
        elif self._pausing:  # the files were rebuilt, as far as that was possible
            self._pausing = self._open = False
            self._failures = [0] * self._count
            self._due = dict.fromkeys(range(self._count), 0.0)
            if code == SOUND:
                self._begin(self._finish)
        elif code != SOUND and (code == DAMAGED or -code in CRASHES):
            self._pausing = True

    def _reap(self) -> None:
        while self._lives:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._started:
                self._listen_to_workers()  # its last words
                os.close(self._started.pop(pid))
            if pid == self._keeper:
                self._keeper_ended(status)
                continue
            if pid == self._web.pid:
                self._tell("web.failed", self._web.ended(status, self._stopping or self._pausing))
                continue
            if pid == self._doctor:
                self._doctor = 0
                self._hear(os.waitstatus_to_exitcode(status))
                continue
            number, started = self._children.pop(pid, (-1, 0.0))
            if self._exchange is not None and number >= 0:
                self._exchange.note(number, AWAY)
            if number >= 0 and status:
                self._have_noted()
            if number < 0 or self._stopping:
                continue
            if number in self._serving:
                self._serving.discard(number)
            else:
                self._failures[number] += 1
            code = os.waitstatus_to_exitcode(status)
            suspect = -code in CRASHES or code == worker.PANIC or self._delays.get(number, 0.0) > AGAIN_AND_AGAIN
            if suspect and not self._doctor and not self._pausing and time.monotonic() - self._looked > LOOK_AGAIN:
                self._begin(self._look)
            lived = time.monotonic() - started
            delay = 0.0 if lived > 10 else min(10.0, max(0.1, self._delays.get(number, 0.05) * 2))
            self._delays[number] = delay
            self._due[number] = time.monotonic() + delay
            log.event("worker.died", "error", worker=number, status=status, restart_in=delay)
