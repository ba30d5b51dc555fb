"""``pytest --forks N``: the tests in N processes side by side, forked from the one that has collected them.

Collecting ten thousand tests and importing what they use takes seconds of CPU, which is paid once here, whatever N is.
The processes take runs of neighbouring tests from a pipe, one after the other, so that none is idle while another has much
left, and tell the first process the reports of their tests. A process that dies fails the test that it was in; what it
had taken and not begun is run by others afterwards.
"""

import builtins
import io
import mmap
import os
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
from _pytest.config import create_terminal_writer

RUN = 16  # tests of a run, at most
UNTOLD = 0.005  # s that a step before or after a test may take and not be told: pytest shows none that is shorter
TOKEN = struct.Struct("<II")  # a run in the pipe: its first test, and the one behind its last
ROOM = 65536  # octets that a pipe holds
NUMBER = struct.Struct("<I")
NONE = 0xFFFFFFFF  # in place of the number of a test: none


def runs(items: Sequence[pytest.Item], numbers: Sequence[int], forks: int) -> list[tuple[int, int]]:
    """The tests with these numbers, as (first, end): neighbours in a file, which may share what a fixture has made, and
    the fewer of them the fewer are left, so that all processes end at about the same time."""
    found: list[tuple[int, int]] = []
    for at, number in enumerate(numbers):
        if found:
            first, end = found[-1]
            longest = min(RUN, (len(numbers) - at) // (4 * forks))
            if end == number and end - first < longest and items[first].path == items[number].path:
                found[-1] = (first, number + 1)
                continue
        found.append((number, number + 1))
    return found


class Silent:
    """Stands where pytest's reporter is, in a process that tells another what is to be reported."""

    def __init__(self, config: pytest.Config) -> None:
        self._tw = create_terminal_writer(config, io.StringIO())


class Teller:
    """In a forked process: sends what is to be reported, once for each test."""

    def __init__(self, config: pytest.Config, out: Connection) -> None:
        self._config = config
        self._out = out
        self._told: list[object] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and not report.sections and not report.user_properties:
            if report.when != "call" and report.duration < UNTOLD:
                return
            # nearly all of them: the parts that differ, which are packed in a tenth of the time
            self._told.append((report.when, report.duration, report.start, report.stop))
        else:
            self._told.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: object
    ) -> None:
        one = warning_message
        # the warning itself may hold anything, and need not survive being packed
        self._told.append([str(one.message), one.category.__name__, one.filename, one.lineno, when, nodeid, location])

    def tell(self, number: int) -> None:
        """This test has ended."""
        self._out.send((number, self._told))
        self._told = []


class Forks:
    """Runs the tests, where ``--forks`` was given."""

    def __init__(self, forks: int) -> None:
        self._forks = forks
        self._made = 0  # processes so far

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly or not session.items:
            return None  # pytest's own loop says what is to be said
        left = list(range(len(session.items)))
        while left:
            done = self._run(session, left)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            if not done:
                raise session.Interrupted("the processes of the tests ended before any test had")
            left = [number for number in left if number not in done]
        return True

    def _run(self, session: pytest.Session, numbers: list[int]) -> set[int]:
        """Run these tests; the numbers of those that ended. What a process that died had not begun is missing."""
        tokens = [TOKEN.pack(*one) for one in runs(session.items, numbers, self._forks)]
        done: set[int] = set()
        source, fill = os.pipe()
        os.write(fill, b"".join(tokens[: ROOM // TOKEN.size]))
        os.close(fill)
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
        where = mmap.mmap(-1, NUMBER.size * self._forks)  # the test that each process is in
        processes: dict[Connection, tuple[int, int]] = {}
        try:
            for slot in range(min(self._forks, len(tokens))):
                self._made += 1
                reader, writer = Pipe(duplex=False)
                pid = os.fork()
                if not pid:
                    for other in processes:
                        other.close()  # else nobody would notice if the first process ended
                    _work(session, source, writer, memoryview(where)[NUMBER.size * slot :], self._made)
                writer.close()
                processes[reader] = (pid, slot)
            while processes:
                for reader in wait(list(processes)):
                    assert isinstance(reader, Connection)
                    try:
                        number, told = reader.recv()
                    except EOFError:
                        pid, slot = processes.pop(reader)
                        reader.close()
                        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                        (number,) = NUMBER.unpack_from(where, NUMBER.size * slot)
                        if code and number != NONE:
                            _died(session.items[number], code)
                            done.add(number)
                    else:
                        _report(session.items[number], told)
                        done.add(number)
                if session.shouldfail or session.shouldstop:
                    while os.read(source, ROOM):
                        pass  # so that nothing more is begun
        finally:
            os.close(source)
            for pid, _ in processes.values():  # there are some when this was interrupted
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        return done


def _report(item: pytest.Item, told: list[Any]) -> None:
    """Report what was told of a test."""
    config = item.config
    config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for one in told:
        if isinstance(one, list):
            text, kind, filename, lineno, when, nodeid, location = one
            category = getattr(builtins, kind, Warning)
            message = warnings.WarningMessage(text, category, filename, lineno)
            config.hook.pytest_warning_recorded.call_historic(
                kwargs={"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
            )
            continue
        if isinstance(one, dict):
            report = config.hook.pytest_report_from_serializable(config=config, data=one)
        else:
            when, duration, start, stop = one
            report = pytest.TestReport(item.nodeid, item.location, {}, "passed", None, when, (), duration, start, stop)
        config.hook.pytest_runtest_logreport(report=report)
    config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _died(item: pytest.Item, code: int) -> None:
    """Report the test that a process was in when it ended."""
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    report = pytest.TestReport(
        item.nodeid, item.location, {}, "failed", f"the process of this test ended with {how}", "call"
    )
    item.config.hook.pytest_runtest_logreport(report=report)


def _work(session: pytest.Session, source: int, out: Connection, where: memoryview, made: int) -> None:
    """A forked process: runs the tests that it takes from ``source``, then ends."""
    status = 1
    try:
        config = session.config
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Silent(config), "terminalreporter")
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:  # what is printed goes to files of this process's own
            capture.stop_global_capturing()
            capture.start_global_capturing()
            capture.suspend_global_capture()
        factory = config._tmp_path_factory  # type: ignore[attr-defined]
        factory._basetemp = factory.getbasetemp() / f"fork{made}"
        factory._basetemp.mkdir(mode=0o700)
        teller = Teller(config, out)
        config.pluginmanager.register(teller)
        upcoming = _taken(source)
        number = next(upcoming, None)
        while number is not None:
            following = next(upcoming, None)
            last = following is None or bool(session.shouldfail or session.shouldstop)
            NUMBER.pack_into(where, 0, number)
            config.hook.pytest_runtest_protocol(
                item=session.items[number], nextitem=None if last else session.items[following or 0]
            )
            teller.tell(number)
            number = None if last else following
        NUMBER.pack_into(where, 0, NONE)
        status = 0
    except BaseException as error:  # said here, since this process has no pytest around it any more
        if not isinstance(error, KeyboardInterrupt):
            traceback.print_exception(error, file=sys.__stderr__)
    finally:
        os._exit(status)


def _taken(source: int) -> Iterator[int]:
    """Numbers of tests, a run at a time, until there are no more."""
    while token := os.read(source, TOKEN.size):
        yield from range(*TOKEN.unpack(token))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, metavar="N", help="run the tests in N processes side by side")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("forks"):
        config.pluginmanager.register(Forks(config.getoption("forks")))
