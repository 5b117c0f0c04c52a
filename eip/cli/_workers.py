"""Several processes of one application: started, watched, restarted, and ended together; their probes as one.

Each is in a session of its own, so that a terminal's Ctrl-C reaches only the parent, which passes it on once. A worker
ends itself when its parent has died: it holds the reading end of a pipe that only the parent writes to.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import orjson

from eip._logging import get_logger
from eip.app._probe_server import Answer, ProbeServer
from eip.cli._common import EXIT_USAGE
from eip.errors import ConfigurationError
from eip.retry import Backoff

__all__ = ["Supervisor", "WorkerPipes"]

_log = get_logger("eip.workers")

_RESTART_BACKOFF: Final = Backoff(base=1.0, cap=30.0)
_STABLE_S: Final = 60.0
"""A worker that ran for longer is restarted as if it were the first time."""
_PROBE_TIMEOUT_S: Final = 5.0


class WorkerPipes(NamedTuple):
    """The file descriptors that a worker gets."""

    life: int
    """Can be read once the parent has ended."""
    port: int
    """Where it writes the port of its health server."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what the parent gave on the command line."""
        life, _, port = text.partition(",")
        return cls(int(life), int(port))

    def report(self, port: int) -> None:
        """Let the parent know where this worker's health server listens."""
        os.write(self.port, f"{port}\n".encode())
        os.close(self.port)


class Supervisor:
    """Keeps a number of workers running until a signal.

    Args:
        command: of a worker.
        workers: how many.
        health: host and port where the probes of all workers are served as one; None: nowhere.
        watch: the folder whose Python files, where they change, have all workers started again; None: none.
    """

    def __init__(
        self, command: Sequence[str], workers: int, *, health: tuple[str, int] | None, watch: Path | None
    ) -> None:
        self._command, self._count, self._health, self._watch = list(command), workers, health, watch
        self._code = 0
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ports: dict[int, int] = {}
        self._changed = asyncio.Event()
        """Set, and replaced, at each change of the source."""
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Work until a signal, or until a worker cannot start; returns the exit code."""
        loop = asyncio.get_running_loop()
        self._life, life_writer = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            async with AsyncExitStack() as stack:
                if self._health is not None:
                    host, port = self._health
                    await stack.enter_async_context(ProbeServer(self._answer, port, host))
                if self._watch is not None:
                    await stack.enter_async_context(self._watching(self._watch))
                await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            os.close(life_writer)
            os.close(self._life)
        return self._code

    def _stop(self) -> None:
        """End: the first time the workers drain, the second time they end at once."""
        self._stopped.set()
        self._terminate()

    def _terminate(self) -> None:
        """Send each worker SIGTERM: unlike SIGINT, it leaves no trace of one that is still being imported."""
        for process in self._processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()

    # One worker.

    async def _keep(self, number: int) -> None:
        failures = 0
        while not self._stopped.is_set():
            began, changed = asyncio.get_running_loop().time(), self._changed
            code = await self._run_one(number)
            if self._stopped.is_set():
                self._code = self._code or max(code, 0)
            elif changed.is_set():
                failures = 0  # it was ended to be started again
            elif self._watch is not None:
                _log.error("worker_ended", worker=number, exit_code=code, waiting_for="a change of its source")
                await self._until_changed(changed)
            elif code in (0, EXIT_USAGE):
                self._give_up(number, code)
            else:
                stable = asyncio.get_running_loop().time() - began >= _STABLE_S
                failures = 1 if stable else failures + 1
                await self._restart_later(number, code, failures)

    def _give_up(self, number: int, code: int) -> None:
        """End them all: what a worker has just refused, the others refuse as well."""
        _log.error("worker_cannot_run", worker=number, exit_code=code)
        self._code = code
        self._stop()

    async def _restart_later(self, number: int, code: int, failures: int) -> None:
        delay = _RESTART_BACKOFF.ceiling(failures)
        _log.error("worker_ended", worker=number, exit_code=code, retry_in=delay)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopped.wait()

    async def _until_changed(self, changed: asyncio.Event) -> None:
        waiting = [asyncio.ensure_future(each.wait()) for each in (changed, self._stopped)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _run_one(self, number: int) -> int:
        reader, writer = os.pipe()
        pipes = f"{self._life},{writer}"
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, "--worker-pipes", pipes, pass_fds=(self._life, writer), start_new_session=True
            )
        finally:
            os.close(writer)
        self._processes[number] = process
        if self._stopped.is_set():
            process.terminate()  # the signal came while it was being made
        asyncio.get_running_loop().add_reader(reader, self._read_port, number, reader)
        _log.info("worker_started", worker=number, process=process.pid)
        try:
            return await process.wait()
        finally:
            asyncio.get_running_loop().remove_reader(reader)
            os.close(reader)
            self._ports.pop(number, None)

    def _read_port(self, number: int, reader: int) -> None:
        text = os.read(reader, 64)
        if text.strip().isdigit():
            self._ports[number] = int(text)
        else:
            asyncio.get_running_loop().remove_reader(reader)  # it ended, or has reported

    @asynccontextmanager
    async def _watching(self, folder: Path) -> AsyncIterator[None]:
        """Watch the folder meanwhile; where that fails, end the workers and raise it: nothing would be reloaded."""
        task = asyncio.create_task(self._reload_on_change(folder))
        task.add_done_callback(self._watch_ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stop()

    async def _reload_on_change(self, folder: Path) -> None:
        try:
            from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - only for this
        except ImportError as error:
            raise ConfigurationError("--reload needs watchfiles: pip install aioeip[cli]") from error
        async for changes in awatch(folder, watch_filter=PythonFilter(), stop_event=self._stopped):
            _log.info("source_changed", files=sorted(str(Path(path).relative_to(folder)) for _, path in changes)[:5])
            self._changed.set()
            self._changed = asyncio.Event()
            self._terminate()

    # The probes of all.

    def _answer(self, target: str) -> Answer:
        with ThreadPoolExecutor(self._count) as pool:
            found = dict(enumerate(pool.map(partial(self._ask, target), range(self._count))))
        if target.partition("?")[0] == "/metrics":
            return _merged(found)
        status = max((each.status for each in found.values()), default=HTTPStatus.SERVICE_UNAVAILABLE)
        body = {f"worker {number}": _plain(each) for number, each in found.items()}
        return Answer(status, orjson.dumps(body) + b"\n", "application/json")

    def _ask(self, target: str, number: int) -> Answer:
        port = self._ports.get(number)
        if port is None:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"starting\n")
        # By no URL, whose host the target could change, and past any proxy of the environment.
        with closing(HTTPConnection("127.0.0.1", port, timeout=_PROBE_TIMEOUT_S)) as worker:
            try:
                worker.request("GET", target)
                answer = worker.getresponse()
                return Answer(HTTPStatus(answer.status), answer.read(), answer.headers.get_content_type())
            except (OSError, HTTPException) as error:
                return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"no answer: {error}\n".encode())


def _plain(answer: Answer) -> Any:
    return orjson.loads(answer.body) if answer.content_type == "application/json" else answer.body.decode().strip()


def _merged(found: Mapping[int, Answer]) -> Answer:
    """The metrics of all workers, each with a label for its worker; those that did not answer are left out."""
    try:
        from eip.telemetry.prometheus import CONTENT_TYPE, merged  # noqa: PLC0415 - an extra
    except ConfigurationError as error:
        return Answer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n".encode())
    texts = {str(number): each.body.decode() for number, each in found.items() if each.status == HTTPStatus.OK}
    return Answer(HTTPStatus.OK, merged(texts, label="worker"), CONTENT_TYPE)
