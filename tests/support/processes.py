"""What every service of the tests shares: free ports, a child process that cannot outlive us, waiting by protocol."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Never

import pytest


class NotReady(Exception):
    """The service does not answer by its protocol yet."""


_LOWEST_PORT = 20_000


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that the kernel gives to no client as its own until we bind it.

    A client that tries again and again to reach a port of the kernel's range, where nobody listens, may even connect to
    itself, and a server that was killed cannot have its port again.
    """
    ports = range(_LOWEST_PORT, _lowest_of_the_kernel())
    for port in random.SystemRandom().sample(ports, min(100, len(ports))):
        with contextlib.suppress(OSError):
            return _bound(port)
    return _bound(0)


def _bound(port: int) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _lowest_of_the_kernel() -> int:
    """The first port that the kernel chooses by itself; 0 where it does not say so."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 0


def installable() -> bool:
    """Whether `make test` could have installed Debian packages here: apt-get, as root or by passwordless sudo."""
    if shutil.which("apt-get") is None:
        return False
    if os.geteuid() == 0:
        return True
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def unavailable(what: str) -> Never:
    """Skips the test; fails it in CI on a machine where the missing part could have been installed."""
    if os.environ.get("CI") == "true" and installable():
        pytest.fail(f"{what} is missing in CI: `make test` should have installed it", pytrace=False)
    pytest.skip(f"{what} is not installed (`make services` installs it where it may)")


def wait_until(ready: Callable[[], object], *, timeout: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Asks until `ready` raises neither NotReady nor OSError; False once `alive` says no, TimeoutError in the end."""
    deadline = time.monotonic() + timeout
    while alive():
        try:
            ready()
        except (NotReady, OSError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {timeout} s: {error!r}") from error
            time.sleep(0.02)
        else:
            return True
    return False


class Service:
    """A server process: start, stop, kill, pause, resume, restart; subclasses give its command line and its greeting.

    Its folder keeps data and log between restarts, and it keeps its ports. The kernel kills it when the thread
    that started it ends (PR_SET_PDEATHSIG, by util-linux's setpriv), so nothing is left after a killed test run.
    """

    start_timeout = 60.0
    log_name = "server.log"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.working_folder = folder
        self.log = folder / self.log_name
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def check(self) -> None:
        """Speaks the service's protocol once; raises NotReady or OSError until it is up."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once the service answers by its protocol; does nothing where it runs already."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_us(), *self.command()],
                cwd=self.working_folder,
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if wait_until(self.check, timeout=self.start_timeout, alive=lambda: self.running):
                return
        except BaseException:
            self.kill()
            raise
        tail = self.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{type(self).__name__} ended with {self._process.returncode} while starting:\n{tail}")

    def stop(self, *, timeout: float = 15.0) -> None:
        """SIGTERM, and SIGKILL after `timeout` seconds."""
        if not self.running:
            return
        assert self._process is not None
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and its group, as kill -9 does."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self, *, hard: bool = False) -> None:
        """Stops (`hard`: kills) and starts again on the same ports and data."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """The process stops answering and keeps its connections (SIGSTOP); returns once each of its threads stands."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._check_stopped, timeout=30, alive=lambda: self.running)

    def _check_stopped(self) -> None:
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            if (state := state_of(thread)) not in ("T", ""):
                raise NotReady(f"thread {thread.name} is in state {state}")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def state_of(process: Path) -> str:
    """The kernel's letter for the state of a process or thread, by its folder in /proc; empty: it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def dies_with_us() -> list[str]:
    """The words before a command that make the kernel kill it with our thread; none where setpriv is not there."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
