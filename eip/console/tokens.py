"""Who may use a console: tokens of readers and operators, of which only digests are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from eip.errors import ConfigurationError

__all__ = ["Role", "TokenDigests", "TokenFile", "Tokens", "User"]

Role: TypeAlias = Literal["reader", "operator"]
_Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_Digest: TypeAlias = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class User:
    """Who a token belongs to."""

    name: str
    role: Role

    @property
    def may_change(self) -> bool:
        """Whether changes are theirs to make."""
        return self.role == "operator"


class TokenDigests(BaseModel):
    """A file of digests of tokens, and of nothing else: a model of its fields derives from it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a token file.

        Args:
            path: JSON, e.g. ``{"readers": {"NAME": "SHA-256"}, "operators": {}}``.

        Raises:
            ConfigurationError: the file is not a token file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.errors(include_input=False)[0]["msg"]
            raise ConfigurationError(f"{path} is not a token file: {reason}") from None

    def save(self, path: Path) -> None:
        """Write the file, for its owner only, in one step."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)


class Tokens(TokenDigests):
    """The SHA-256 of each token, by name. Tokens are 256 random bits, so a plain digest cannot be turned back."""

    readers: dict[_Name, _Digest] = Field(default_factory=dict)
    operators: dict[_Name, _Digest] = Field(default_factory=dict)

    def grant(self, name: str, role: Role = "reader") -> str:
        """Return a new token for the name in that role, in place of all its former ones.

        Args:
            name: 1 to 100 characters, shown in the audit log.
            role: what it may do.

        Raises:
            ConfigurationError: no such name.
        """
        if not 0 < len(name) <= 100 or not name.isprintable():
            raise ConfigurationError(f"name must be 1 to 100 printable characters, got {name!r}")
        made = secrets.token_urlsafe(32)
        self.readers.pop(name, None)
        self.operators.pop(name, None)
        (self.operators if role == "operator" else self.readers)[name] = _digest(made)
        return made

    def user(self, token: str) -> User | None:
        """Whose token it is, or None; takes the same time whoever it is."""
        given, found = _digest(token), None
        for name, digest in self.readers.items():
            if hmac.compare_digest(digest, given):
                found = User(name, "reader")
        for name, digest in self.operators.items():
            if hmac.compare_digest(digest, given):
                found = User(name, "operator")
        return found


class TokenFile:
    """The tokens of a file, read again where it has changed: a token is taken away by taking it out of the file.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: the file is not a token file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens = Tokens.load(path)
        self._seen = self._stamp()

    def user(self, token: str) -> User | None:
        """Whose token it is, or None. No token is valid while the file is missing or is not a token file."""
        stamp = self._stamp()
        if stamp != self._seen:
            try:
                self._tokens = Tokens.load(self._path)
            except ConfigurationError:
                return None
            self._seen = stamp
        return self._tokens.user(token)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
