"""Runs the RFQ service against a broker or emulator that it starts for it; Ctrl-C ends both.

python scripts/rfq_local.py aws --port 8080        what follows is for `python -m examples.rfq`
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.aws import MotoServer  # noqa: E402 - this is a script, and the tests are no package
from tests.support.environment import ENVIRONMENT  # noqa: E402


def main() -> int:
    """Run it; the service's exit code."""
    transport, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        server = {"aws": MotoServer}[transport](Path(folder))
        # Ctrl-C reaches the service as well, which drains; until then the server is needed, in a session of its own.
        signal.signal(signal.SIGINT, lambda *_: None)
        server.start()
        try:
            line = [sys.executable, "-m", "examples.rfq", "--transport", transport, "--endpoint-url", server.url]
            service = subprocess.Popen([*line, *options], cwd=ROOT, env={**os.environ, **ENVIRONMENT})
            signal.signal(signal.SIGTERM, lambda *_: service.terminate())
            return service.wait()
        finally:
            server.stop(timeout=3)


if __name__ == "__main__":
    sys.exit(main())
