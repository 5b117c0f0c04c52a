"""A self-signed certificate for loopback, as PEM for clients and PKCS#12 for a JVM."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509.oid import NameOID

KEYSTORE_PASSWORD = "changeit"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Writes `server.pem` (the certificate) and `server.p12` (with its key) and returns both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, keystore = folder / "server.pem", folder / "server.p12"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = BestAvailableEncryption(KEYSTORE_PASSWORD.encode())
    keystore.write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, certificate, None, secret))
    return pem, keystore
