"""The application's commands as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import dies_with_us

ROOT = Path(__file__).parents[3]


class Processes:
    """Starts, kills and ends commands; what they say goes to one log in their folder.

    Args:
        folder: of the log, and the working folder.
        options: of every command.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self._folder, self._options = folder, options
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.log = folder / "processes.log"

    def start(self, command: str, *options: str) -> None:
        """Start the command, or start it again."""
        with self.log.open("ab") as log:
            self._running[command] = subprocess.Popen(
                [*dies_with_us(), *self._words(command, *options)],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
            )

    def kill(self, command: str) -> None:
        """As kill -9 does."""
        process = self._running.pop(command)
        assert process.poll() is None, f"{command} ended by itself:\n{self.log.read_text()[-3000:]}"
        process.kill()
        process.wait()

    def end(self) -> dict[str, int]:
        """SIGTERM to all; their exit codes."""
        for process in self._running.values():
            process.terminate()
        codes = {command: process.wait(timeout=60) for command, process in self._running.items()}
        self._running.clear()
        return codes

    def kill_all(self) -> None:
        """What is left."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def output(self, command: str, *options: str) -> str:
        """What a command prints that ends by itself."""
        done = subprocess.run(
            self._words(command, *options),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self._folder,
            env=self._environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self) -> dict[int, tuple[str, str, str]]:
        """By number, the jobs that the inventory has."""
        listed = map(json.loads, self.output("jobs", "--json").splitlines())
        return {each["job_id"]: (each["title"], each["employer"], each["city"]) for each in listed}

    def _words(self, command: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "examples.job_events", command, *self._options, *options]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}
