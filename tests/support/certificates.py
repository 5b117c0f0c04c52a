"""Certificates for loopback: a self-signed one for a JVM, and an authority that issues them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

KEYSTORE_PASSWORD = "changeit"


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """A certificate for loopback under the name, valid from an hour ago for two days.

    The key identifiers are what Python 3.13 asks for: it verifies strictly (RFC 5280).
    """
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Writes `server.pem` (the certificate) and `server.p12` (with its key) and returns both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("localhost", _named("localhost"), key, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, keystore = folder / "server.pem", folder / "server.p12"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = BestAvailableEncryption(KEYSTORE_PASSWORD.encode())
    keystore.write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, certificate, None, secret))
    return pem, keystore


class Authority:
    """Issues certificates for servers and clients on loopback; `certificate` is what trusts them."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        signed = (
            _builder(name, self._name, self._key, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(self, name: str) -> Path:
        """A PEM file with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = (
            _builder(name, self._name, key, self._key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = self._folder / f"{name}.pem"
        pem.write_bytes(issued.public_bytes(Encoding.PEM) + plain)
        return pem

    def revoke(self, *certificates: Path) -> Path:
        """A PEM file with the list of these and no other revoked certificates; replaces the one before."""
        now = datetime.now(UTC)
        revoked = x509.CertificateRevocationListBuilder(
            issuer_name=self._name, last_update=now - timedelta(hours=1), next_update=now + timedelta(days=1)
        ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        for pem in certificates:
            serial = x509.load_pem_x509_certificate(pem.read_bytes()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(minutes=1))
            revoked = revoked.add_revoked_certificate(one.build())
        crl = self._folder / f"{self.certificate.stem}.crl"
        crl.write_bytes(revoked.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return crl
