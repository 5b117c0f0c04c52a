"""What the SDK's ordinary chain finds in a test: no profile, no metadata service, and keys that open nothing."""

from __future__ import annotations

import os
import sys

REGION = "us-east-1"
ACCOUNT = "123456789012"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

ACCOUNT_VARIABLE = "EIP_TEST_AWS_ACCOUNT"
"""Names the real account that `make test-aws` may use."""


def is_account_run() -> bool:
    """Whether these are the tests on a real account: it is named, and nothing else is run."""
    return bool(os.environ.get(ACCOUNT_VARIABLE)) and any("tests/account" in each for each in sys.argv)
