"""Return addresses come from strangers."""

from __future__ import annotations

from typing import Any

import pytest

from eip import ReturnAddresses
from eip.errors import AddressRefused, ConfigurationError


class Directory:
    def resolve(self, address: str) -> str:
        return f"sender of {address}"

    def queue_addresses(self, prefix: str) -> str:
        return f"arn:aws:sqs:eu-central-1:123456789012:{prefix}*"


def addresses(**options: Any) -> ReturnAddresses:
    return ReturnAddresses(Directory(), **options)  # type: ignore[arg-type]


ALLOWED = "arn:aws:sqs:eu-central-1:123456789012:rfq-replies"


def test_a_queue_of_the_account_with_the_prefix_is_allowed():
    assert str(addresses(prefix="rfq-").resolve(ALLOWED)) == f"sender of {ALLOWED}"


@pytest.mark.parametrize(
    "address",
    [
        "arn:aws:sqs:eu-central-1:999999999999:rfq-replies",
        "arn:aws:sqs:eu-central-1:123456789012:other",
        "arn:aws:sns:eu-central-1:123456789012:rfq-replies",
        "https://evil.example/rfq-",
        "",
        ALLOWED + "\n",
        ALLOWED + "x" * 3000,
    ],
)
def test_anything_else_is_refused_and_counted(address):
    refusing = addresses(prefix="rfq-")
    with pytest.raises(AddressRefused):
        refusing.resolve(address)
    assert refusing.refused == 1


def test_more_addresses_can_be_allowed():
    allowing = addresses(allow="memory:queue/partner-*")
    allowing.resolve("memory:queue/partner-1")
    with pytest.raises(AddressRefused):
        allowing.resolve("memory:queue/mine")


@pytest.mark.parametrize("options", [{}, {"prefix": ""}, {"allow": ["*"]}, {"allow": ["a", "**"]}])
def test_an_allow_list_that_allows_everything_or_nothing_is_refused(options):
    with pytest.raises(ConfigurationError):
        addresses(**options)
