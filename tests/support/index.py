"""A package index on this machine, and wheels made by hand: hostile ones too."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event

from support.loopback import listening

Entry = tuple[zipfile.ZipInfo | str, bytes]


def wheel(name: str, version: str, *entries: Entry, requires: tuple[str, ...] = ()) -> bytes:
    """A wheel with these files and the metadata that an installer expects."""
    info = f"{name}-{version}.dist-info"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
        archive.writestr(f"{info}/METADATA", metadata(name, version, requires))
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


def metadata(name: str, version: str, requires: tuple[str, ...] = ()) -> str:
    lines = "".join(f"Requires-Dist: {one}\n" for one in requires)
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}"


def sdist(name: str, version: str, setup: str) -> bytes:
    """A source distribution whose setup.py does what `setup` says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for file, content in (("setup.py", setup), ("PKG-INFO", metadata(name, version))):
            data = content.encode()
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def patched(
    data: bytes,
    name: str,
    *,
    central: Mapping[int, bytes] | None = None,
    local: Mapping[int, bytes] | None = None,
) -> bytes:
    """A zip with bytes of one entry's headers replaced, at offsets from their beginnings."""
    raw = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        begin = archive.getinfo(name).header_offset
    for offset, value in (local or {}).items():
        raw[begin + offset : begin + offset + len(value)] = value
    place = data.index(b"PK\x01\x02")
    while data[place : place + 4] == b"PK\x01\x02":
        length, extra, comment = struct.unpack("<3H", data[place + 28 : place + 34])
        if data[place + 46 : place + 46 + length] == name.encode():
            for offset, value in (central or {}).items():
                raw[place + offset : place + offset + len(value)] = value
        place += 46 + length + extra + comment
    return bytes(raw)


@dataclass(kw_only=True)
class Index:
    """Files by name, as the simple API shows them. `password` is asked for when it is set.

    `held` are beginnings of paths that get no answer before their event is set.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    served_instead: dict[str, bytes] = field(default_factory=dict)
    password: str = ""
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    held: dict[str, Event] = field(default_factory=dict)

    def add(self, filename: str, data: bytes) -> None:
        self.files[filename] = data

    def project(self, name: str) -> str:
        rows = []
        for filename, data in sorted(self.files.items()):
            if filename.split("-")[0].replace("_", "-").lower() == name:
                digest = hashlib.sha256(data).hexdigest()
                told = ' data-core-metadata="true"' if filename.endswith(".whl") else ""
                rows.append(f'<a href="/files/{filename}#sha256={digest}"{told}>{filename}</a><br>')
        return f"<!DOCTYPE html><html><body>{''.join(rows)}</body></html>" if rows else ""


@contextmanager
def serve(index: Index) -> Iterator[Index]:
    """Serve the index on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.requests.append((self.path, self.headers.get("Authorization", "")))
            for begin, event in index.held.items():
                if self.path.startswith(begin):
                    event.wait(60)
            if index.password and self.headers.get("Authorization") != _basic(index.password):
                self._answer(401, b"", "text/plain")
                return
            parts = self.path.strip("/").split("/")
            if parts[0] == "simple" and len(parts) == 2:
                page = index.project(parts[1])
                self._answer(200 if page else 404, page.encode(), "text/html")
                return
            filename = parts[-1]
            if filename.endswith(".metadata"):
                name, version = filename.split("-")[:2]
                self._answer(200, metadata(name, version).encode(), "text/plain")
                return
            data = index.served_instead.get(filename, index.files.get(filename))
            self._answer(404 if data is None else 200, data or b"", "application/octet-stream")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with listening(Handler) as server:
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        yield index


def _basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'reader:{password}'.encode()).decode()}"
