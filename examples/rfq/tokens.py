"""Bearer tokens, and whom they belong to.

A token file holds digests only. ``python -m examples.rfq.tokens FILE NAME`` makes a token, prints it once and adds its
digest to the file.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias, get_args

from pydantic import Field, StringConstraints, ValidationError

from eip.console.tokens import TokenDigests
from eip.errors import ConfigurationError
from examples.rfq.model import Text

__all__ = ["BearerTokens", "Caller", "Role", "TokenOwners", "Tokens"]

Role: TypeAlias = Literal["customer", "operator", "unicorn"]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a token belongs to."""

    name: str
    role: Role = "customer"

    def sees(self, customer: str) -> bool:
        """Whether the customer's RFQs are theirs to see."""
        return self.role == "customer" and self.name == customer


class Tokens(TokenDigests):
    """A token file: by name, the SHA-256 of each token. Tokens are random, so a plain digest cannot be turned back."""

    customers: dict[Text, Digest] = Field(default_factory=dict)
    operators: dict[Text, Digest] = Field(default_factory=dict)
    unicorns: dict[Text, Digest] = Field(default_factory=dict)

    def grant(self, name: str, role: Role = "customer") -> str:
        """A new token for the name in that role, in place of its former one."""
        made = secrets.token_urlsafe(32)
        self._known(role)[name] = _digest(made)
        return made

    def _known(self, role: Role) -> dict[str, str]:
        return {"customer": self.customers, "operator": self.operators, "unicorn": self.unicorns}[role]

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None; takes the same time whoever it is."""
        digest_given, found = _digest(given), None
        for role in get_args(Role):
            for name, digest in self._known(role).items():
                if hmac.compare_digest(digest, digest_given):
                    found = Caller(name=name, role=role)
        return found


class TokenOwners(Protocol):
    """Knows whose tokens are whose."""

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None."""
        ...


class BearerTokens:
    """Tokens of several kinds.

    Args:
        kinds: of which the first that knows a token has it.
    """

    def __init__(self, *kinds: Callable[[], TokenOwners]) -> None:
        self._kinds = kinds

    def owner(self, given: str) -> Caller | None:
        """Whose token it is, or None."""
        return next((found for kind in self._kinds if (found := kind().owner(given)) is not None), None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def main() -> int:
    """Make a token; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.rfq.tokens", description="Make a token.")
    parser.add_argument("file", type=Path, help="the token file; made where there is none")
    parser.add_argument("name", help="the customer's name, as in their requests")
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--operator", action="store_const", const="operator", dest="role", help="for operations instead")
    role.add_argument("--unicorn", action="store_const", const="unicorn", dest="role", help="for a unicorn instead")
    options = parser.parse_args()
    try:
        tokens = Tokens.load(options.file) if options.file.exists() else Tokens()
        made = tokens.grant(options.name.strip(), options.role or "customer")
        tokens.model_validate(tokens.model_dump()).save(options.file)
    except (ConfigurationError, ValidationError, OSError) as error:
        print(f"no token made: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
