"""The way to API Gateway's addresses: an HTTPS proxy that serves them from the embedded AWS.

The image asks `https://<id>.execute-api.<region>.amazonaws.com/api/` as it would anywhere. What is
not API Gateway's is passed on untouched.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import select
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chalice_ci.local import EmbeddedAWS
from support.loopback import listening

_SECONDS = 30


@dataclass(kw_only=True)
class Door:
    """A proxy that runs; `authority` is the certificate to trust, `asked` what was served."""

    url: str
    authority: bytes
    asked: list[str] = field(default_factory=list)

    def environ(self, bundle: Path) -> dict[str, str]:
        """The variables that lead through it; `bundle` is where the certificates were written."""
        return {"HTTPS_PROXY": self.url, "SSL_CERT_FILE": str(bundle)}

    def write_bundle(self, path: Path) -> None:
        """The certificates that this machine trusts, and the door's own."""
        system = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        path.write_bytes((Path(system).read_bytes() if system else b"") + self.authority)


@contextmanager
def door(aws: EmbeddedAWS, folder: Path) -> Iterator[Door]:
    """Open it. `folder` gets the certificate."""
    suffix = f".execute-api.{aws.region}.amazonaws.com"
    context, authority = _certificate(f"*{suffix}", folder)
    opened = Door(url="", authority=authority)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

        def do_CONNECT(self) -> None:
            host, _, port = self.path.rpartition(":")
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                if host.endswith(suffix):
                    self._serve(host)
                else:
                    with socket.create_connection((host, int(port)), timeout=_SECONDS) as other:
                        _join(self.connection, other)

        def _serve(self, host: str) -> None:
            self.connection.settimeout(_SECONDS)
            with context.wrap_socket(self.connection, server_side=True) as inner:
                line, *_ = inner.recv(65536).decode("latin-1").splitlines()
                url = f"https://{host}{line.split()[1]}"
                opened.asked.append(url)
                status, body = _get(aws.local_url_of(url))
                reason = http.client.responses.get(status, "")
                head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n"
                inner.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)

    with listening(Handler) as server:
        opened.url = f"http://127.0.0.1:{server.server_port}"
        yield opened


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _join(one: socket.socket, other: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([one, other], [], [], 60)
        if not ready:
            return
        for end in ready:
            data = end.recv(65536)
            if not data:
                return
            (other if end is one else one).sendall(data)


def _certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """A server's settings and the certificate, its own authority, that a client has to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "offline API Gateway")])
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    file = folder / "door.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, made
