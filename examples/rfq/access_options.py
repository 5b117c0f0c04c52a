"""The options of who may call, and what they make."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

from starlette.applications import Starlette

from examples.lifecycle import Waiting
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.callbacks import CallbackOptions, load_secret
from examples.rfq.files import Reloaded
from examples.rfq.hosts import Hosts
from examples.rfq.partners import Partners
from examples.rfq.rate_limit import RateLimit
from examples.rfq.server import Server, connection_limit
from examples.rfq.tls import Trust
from examples.rfq.tokens import BearerTokens, TokenOwners, Tokens
from examples.rfq.unicorn_api import unicorn_app
from examples.rfq.unicorns import Unicorns
from examples.rfq.webhooks import UrlRules

__all__ = ["Access", "add_arguments", "wrong_options"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    title = "By default anybody who can reach the port may ask, over plain HTTP. Files are read again when they change."
    guard = parser.add_argument_group("access", title)
    guard.add_argument("--tls-certificate", type=Path, metavar="PEM", help="serve HTTPS with this certificate")
    guard.add_argument("--tls-key", type=Path, metavar="PEM", help="its key; default: in the same file")
    guard.add_argument(
        "--tls-client-ca", type=Path, metavar="PEM", help="let in only clients with a certificate of these (mutual TLS)"
    )
    guard.add_argument("--tls-crl", type=Path, metavar="PEM", help="those authorities' lists of revoked certificates")
    guard.add_argument(
        "--tls-client-optional",
        action="store_true",
        help="let clients without a certificate connect too; they get 403 where no token names them",
    )
    guard.add_argument("--partners", type=Path, metavar="FILE", help="which customer a client's certificate stands for")
    guard.add_argument("--tokens", type=Path, metavar="FILE", help="ask for tokens; see python -m examples.rfq.tokens")
    guard.add_argument("--jwt-keys", type=Path, metavar="JWKS", help="ask for JWTs, signed with one of these keys")
    guard.add_argument("--jwt-issuer", metavar="NAME", help="what iss of a JWT must be")
    guard.add_argument("--jwt-audience", metavar="NAME", help="what aud of a JWT must be, or hold")
    guard.add_argument("--rate-limit", type=float, metavar="N", help="calls a second of one customer, or one address")
    guard.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="answer under this name too, as a client's Host header has it; repeatable",
    )
    guard.add_argument(
        "--trusted-proxy", default="", metavar="ADDRESS", help="believe the X-Forwarded headers of this proxy"
    )
    calls = parser.add_argument_group("callbacks", "By default no URL is called.")
    calls.add_argument(
        "--callback-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="customers' URLs may be of this host, over HTTPS; repeatable",
    )
    calls.add_argument(
        "--callback-secret",
        type=Path,
        metavar="FILE",
        help="what calls are signed with; see python -m examples.rfq.callbacks",
    )
    calls.add_argument(
        "--callback-loopback", action="store_true", help="call loopback addresses too, over plain HTTP as well"
    )


def wrong_options(options: argparse.Namespace) -> str | None:
    """What is wrong with the options; None: nothing."""
    if options.rate_limit is not None and not 0 < options.rate_limit <= 1_000_000:
        return "--rate-limit is more than 0"
    if options.tls_certificate is None and (options.tls_key or options.tls_client_ca):
        return "--tls-key and --tls-client-ca need --tls-certificate"
    if options.tls_client_ca is None and (options.tls_crl or options.tls_client_optional or options.partners):
        return "--tls-crl, --tls-client-optional and --partners need --tls-client-ca"
    if not all((options.jwt_keys, options.jwt_issuer, options.jwt_audience)) and any(
        (options.jwt_keys, options.jwt_issuer, options.jwt_audience)
    ):
        return "--jwt-keys, --jwt-issuer and --jwt-audience go together"
    if options.callback_secret is None and (options.callback_host or options.callback_loopback):
        return "--callback-host and --callback-loopback need --callback-secret"
    return None


class Access:
    """What the options say about who may call; raises `ConfigurationError` or `OSError` where a file is wrong."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tls = _trust(options) if options.tls_certificate else None
        self.partners = Partners(options.partners) if options.tls_client_ca else None
        self.tokens = _tokens(options)
        self.limit = RateLimit(options.rate_limit) if options.rate_limit else None
        self.hosts = Hosts(options.allowed_host)
        self.proxy: str = options.trusted_proxy
        self.callbacks = _callbacks(options) if options.callback_secret else None

    def front(self, booking: RideBooking, unicorns: Unicorns | None) -> Starlette:
        """The API, with that of unicorn management where it is in the same process."""
        return app(
            booking,
            tokens=self.tokens,
            partners=self.partners,
            limit=self.limit,
            hosts=self.hosts,
            unicorns=unicorns,
        )

    def unicorns(self, unicorns: Unicorns, *parts: Waiting) -> Starlette:
        """The API of unicorn management alone."""
        return unicorn_app(
            unicorns,
            (unicorns, *parts),
            tokens=self.tokens,
            partners=self.partners,
            limit=self.limit,
            hosts=self.hosts,
        )

    def server(self, front: Starlette, sock: socket.socket) -> Server:
        """Serve an application on a socket."""
        return Server(front, sock, connections=connection_limit(), tls=self.tls, trusted_proxy=self.proxy)


def _callbacks(options: argparse.Namespace) -> CallbackOptions:
    rules = UrlRules(options.callback_host, loopback=options.callback_loopback)
    return CallbackOptions(rules, load_secret(options.callback_secret))


def _trust(options: argparse.Namespace) -> Trust:
    return Trust(
        options.tls_certificate,
        options.tls_key,
        client_ca=options.tls_client_ca,
        revoked=options.tls_crl,
        optional=options.tls_client_optional,
    )


def _tokens(options: argparse.Namespace) -> TokenOwners | None:
    if options.tokens is None and options.jwt_keys is None:
        return None
    opaque = Reloaded([options.tokens], lambda: Tokens.load(options.tokens)) if options.tokens else None
    if options.jwt_keys is None:
        assert opaque is not None
        return BearerTokens(lambda: opaque.current)
    from examples.rfq.jwts import JwtTokens  # noqa: PLC0415 - needs the extra jwt

    signed = JwtTokens(options.jwt_keys, issuer=options.jwt_issuer, audience=options.jwt_audience)
    return BearerTokens(*([] if opaque is None else [lambda: opaque.current]), lambda: signed)
