"""The request for the next hop, as it arrives: by HTTP, by TLS, or not at all."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sequential.edge import fire


class Received:
    """What came over one connection, when the other side had hung up."""

    def __init__(self) -> None:
        self.text: asyncio.Queue[bytes] = asyncio.Queue()
        self.port = 0


@contextlib.asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Received]:
    received = Received()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            received.text.put_nowait(await reader.read())

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    async with server:
        received.port = server.sockets[0].getsockname()[1]
        yield received


def certificate(folder: Path) -> Path:
    """A certificate of this machine with its key in one file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / "here.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(secret + signed.public_bytes(pem))
    return file


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


async def test_a_request_is_sent_whole(tls: tuple[ssl.SSLContext, Path]) -> None:
    async with listening() as received:
        await fire.post(f"http://user:pw@127.0.0.1:{received.port}/resume/1?token=a.b")
        head, *fields = (await received.text.get()).decode().split("\r\n")
    assert head == "POST /resume/1?token=a.b HTTP/1.1"
    assert f"Host: 127.0.0.1:{received.port}" in fields
    assert "Content-Length: 0" in fields
    assert fields[-2:] == ["", ""]


async def test_a_request_is_sent_by_tls(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, file = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with listening(context) as received:
        await fire.post(f"https://127.0.0.1:{received.port}")
        assert (await received.text.get()).startswith(b"POST / HTTP/1.1\r\n")


async def test_a_server_that_cannot_prove_who_it_is_gets_nothing(
    tls: tuple[ssl.SSLContext, Path],
) -> None:
    async with listening(tls[0]) as received:
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await fire.post(f"https://127.0.0.1:{received.port}/resume/1?token=secret")
        assert received.text.empty()


async def test_a_server_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fire, "TIMEOUT", 0.05)
    async with listening() as received:  # it takes connections, but knows no TLS
        with pytest.raises(TimeoutError):
            await fire.post(f"https://127.0.0.1:{received.port}")
        assert b"POST" not in await received.text.get()
