"""`make rfq-aws` and `make rfq-activemq`: one command starts all, an interrupt ends all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.examples.rfq.service import ROOT
from tests.support.activemq import HOME
from tests.support.processes import unavailable


@pytest.mark.parametrize(
    "transport",
    [pytest.param("aws", marks=pytest.mark.aws), pytest.param("activemq", marks=pytest.mark.activemq)],
)
def test_one_command_starts_all_and_an_interrupt_ends_all(transport, tmp_path):
    if transport == "activemq" and not (shutil.which("java") and HOME.exists()):
        unavailable("activemq")
    state = [] if transport == "aws" else ["--state", str(tmp_path / "rfq.sqlite")]
    script = subprocess.Popen(
        [sys.executable, "scripts/rfq_local.py", transport, "--port", "0", "--unicorns", "3", *state],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert script.stdout is not None
    try:
        found = re.search(r"http://([\d.]+):(\d+)/ .*state in (\S+);", script.stdout.readline())
        assert found is not None
        assert found[3] == ("dynamodb:rfq" if transport == "aws" else state[1])
        os.killpg(script.pid, signal.SIGINT)  # as a terminal does
        assert script.wait(timeout=60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((found[1], int(found[2])), timeout=5)
    finally:
        script.kill()
        script.wait()
        script.stdout.close()
