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

from tests.support.activemq import ActiveMQBroker  # noqa: E402 - this is a script, and the tests are no package
from tests.support.aws import MotoServer  # noqa: E402
from tests.support.environment import ENVIRONMENT  # noqa: E402


class Broker(ActiveMQBroker):
    """With what `docs/rfq.md` advises: what expired is dropped, and queues end that a unicorn left."""

    purge = 10_000
    queue_policies = """
      <policyEntry queue="&gt;" producerFlowControl="false" gcInactiveDestinations="true"
                   inactiveTimeoutBeforeGC="60000">
        <deadLetterStrategy><sharedDeadLetterStrategy processExpired="false"/></deadLetterStrategy>
      </policyEntry>"""


SERVERS = {"aws": MotoServer, "activemq": Broker}


def main() -> int:
    """Run it; the service's exit code."""
    transport, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        server = SERVERS[transport](Path(folder))
        # Ctrl-C reaches the service as well, which drains; until then the server is needed, in a session of its own.
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            server.start()
        except (OSError, RuntimeError) as error:
            print(f"{transport} did not start; `make services` installs what is missing: {error}", file=sys.stderr)
            return 1
        try:
            line = [sys.executable, "-m", "examples.rfq", "--transport", transport, "--endpoint-url", server.url]
            service = subprocess.Popen([*line, *options], cwd=ROOT, env={**os.environ, **ENVIRONMENT})
            signal.signal(signal.SIGTERM, lambda *_: service.terminate())
            return service.wait()
        finally:
            server.stop(timeout=3)


if __name__ == "__main__":
    sys.exit(main())
