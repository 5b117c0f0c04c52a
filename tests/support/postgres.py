"""A real PostgreSQL with logical replication, run by an unprivileged user (it refuses to run as root)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.processes import NotReady, Service, dies_with_us, free_port, state_of, unavailable, wait_until

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "60",
    "shared_buffers": "32MB",
    # What is lost with the machine's power, not with a killed process.
    "fsync": "off",
    "full_page_writes": "off",
}


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL server that is installed: Debian keeps it off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).parent if on_path else None


def _unprivileged() -> list[str]:
    """The words before a command that give up root, if that is who we are."""
    if os.geteuid() != 0:
        return dies_with_us()
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "KILL", "--"]


class PostgresServer(Service):
    """`dsn` is what asyncpg.connect takes; superuser `postgres`, trusted on loopback."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.url = self.dsn
        self._bin = bin_folder
        self._data = folder / "data"

    def initialise(self) -> None:
        """Makes the data folder, owned by who will run the server."""
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            shutil.chown(self._data, "postgres", "postgres")
        made = subprocess.run(
            [
                *_unprivileged(),
                str(self._bin / "initdb"),
                *("-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(made.stdout + made.stderr)

    def command(self) -> Sequence[str]:
        options = {**OPTIONS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [*_unprivileged(), str(self._bin / "postgres"), "-D", str(self._data), *settings]

    def check(self) -> None:
        asked = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        if subprocess.run(asked, check=False).returncode:
            raise NotReady("pg_isready")

    def stop(self, *, timeout: float = 15.0) -> None:
        """A fast shutdown: it does not wait for clients (SIGINT)."""
        if self.running:
            os.kill(self.pid, signal.SIGINT)
            try:
                assert self._process is not None
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and its back-ends, which have sessions of their own, and hold its shared memory."""
        children = self._children() if self.running else []
        super().kill()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_until(lambda: _all_gone(children), timeout=10)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _children(self) -> list[int]:
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def _all_gone(processes: Sequence[int]) -> None:
    for process in processes:
        if state_of(Path(f"/proc/{process}")) not in ("Z", ""):
            raise NotReady(f"process {process} is still there")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """In a folder of its own under /tmp, since pytest's own is closed to other users."""
    bin_folder = binaries()
    if bin_folder is None:
        unavailable("postgresql")
    with tempfile.TemporaryDirectory(prefix="eip-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), bin_folder)
        server.initialise()
        server.start()
        yield server
        server.stop()
