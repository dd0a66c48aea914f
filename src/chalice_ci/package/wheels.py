"""Fetching wheels, and looking into each before a byte of it is used.

A wheel is kept under its hash and hashed again whenever it is read. What is in it is decided once,
with everything inflated: names that leave the archive, links, overlapping or lying entries and
bombs are refused. The result, a table of members, is kept beside the wheel.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError
from chalice_ci.package.index import Origins
from chalice_ci.package.lock import Wheel
from chalice_ci.uv import ca_file, masked

if TYPE_CHECKING:
    import urllib3

_FORMAT = 1
_CHUNK = 1024 * 1024
_PARALLEL = 8
_LARGE = 256 * 1024
_TRIES = 3
_MAX_WHEEL = 300 * 1024 * 1024
_MAX_UNPACKED = 512 * 1024 * 1024
_MAX_MEMBERS = 60_000
_MAX_NAME = 1000
# Deflate reaches 1032:1 on nothing but zeros; what real packages hold stays below this.
_MAX_RATIO = 1000
_RATIO_FROM = 1024 * 1024

_LOCAL = struct.Struct("<4s5H3I2H")


class Member(NamedTuple):
    """A file of a wheel: where its bytes are (`offset`, `packed`), and what they are.

    No dataclass: thousands are read in each run, and a frozen one takes six times as long to make.
    """

    name: str
    crc: int
    size: int
    packed: int
    method: int
    offset: int
    executable: bool
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A wheel on disk, verified, with its members in their order."""

    wheel: Wheel
    path: Path
    members: tuple[Member, ...]


class WheelRefused(Exception):
    """Why a wheel is not used."""


class Fetcher:
    """Has wheels on disk, verified; whoever uses it closes it (`with`).

    `environ` says which certificates and proxies to use.
    """

    def __init__(self, *, cache_dir: Path, environ: Mapping[str, str], origins: Origins) -> None:
        self._folder = cache_dir / "wheels"
        self._connections = _Connections(environ, origins)
        self._pool = ThreadPoolExecutor(max_workers=_PARALLEL)
        self._expected: dict[str, Future[Fetched]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def expect(self, wheels: Sequence[Wheel]) -> None:
        """Begin to fetch what will probably be asked for and is not there."""
        # Closed meanwhile, or no folder can be made: whoever asks for one is told.
        with contextlib.suppress(RuntimeError, OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for wheel in wheels:
                if wheel.sha256 not in self._expected and not self._place(wheel).exists():
                    self._expected[wheel.sha256] = self._begun(wheel)

    def __call__(self, wheels: Sequence[Wheel]) -> tuple[Fetched, ...]:
        """The wheels, in the given order.

        Raises PackageError with the name of what could not be fetched, is not what was locked, or
        is not fit to be packaged.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        futures = [self._expected.get(wheel.sha256) or self._begun(wheel) for wheel in wheels]
        try:
            return tuple(map(self._result, wheels, futures))
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _begun(self, wheel: Wheel) -> Future[Fetched]:
        return self._pool.submit(_have, wheel, self._place(wheel), self._connections)

    def _place(self, wheel: Wheel) -> Path:
        return self._folder / f"{wheel.sha256}.whl"

    def _result(self, wheel: Wheel, future: Future[Fetched]) -> Fetched:
        try:
            return replace(future.result(), wheel=wheel)
        except PackageError:
            if self._expected.get(wheel.sha256) is not future:
                raise
        # It was expected at another address.
        return self._begun(wheel).result()


def file_sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_archive(
    wanted: Wheel, *, cache_dir: Path, environ: Mapping[str, str], origins: Origins
) -> tuple[Path, str]:
    """Have a source distribution, or a wheel at an address, on disk: its path and its sha256.

    Without a hash in `wanted` it is fetched each time. Raises PackageError like `Fetcher`.
    """
    folder = cache_dir / "sources"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if wanted.sha256:
        path = folder / wanted.sha256
        mark_used(path)
        if not _is_whole(path, wanted.sha256):
            _download(wanted, path, _Connections(environ, origins))
        return path, wanted.sha256
    draft = folder / f".{secrets.token_hex(8)}"
    try:
        sha256 = _download(wanted, draft, _Connections(environ, origins))
        draft.replace(folder / sha256)
    finally:
        draft.unlink(missing_ok=True)
    return folder / sha256, sha256


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return file_sha256(path) == sha256
    except FileNotFoundError:
        return False


def _have(wheel: Wheel, path: Path, connections: _Connections) -> Fetched:
    for left in range(_TRIES, -1, -1):
        whole = _is_whole(path, wheel.sha256)
        if not whole and wheel.path is not None:
            _copy(wheel, wheel.path, path)
        elif not whole:
            _download(wheel, path, connections)
        mark_used(path, path.with_suffix(".json"))
        members = _known_members(path) if whole else None
        if members is not None:
            break
        try:
            members = inspect_wheel(path)
            _remember(path, members)
            break
        except (WheelRefused, zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and left:
                # It was so old that another process made room just now.
                continue
            raise PackageError(
                f"the wheel of {wheel.name} {wheel.version} is not usable: {error}.",
                where=wheel.filename,
                fix="Pin another version, and tell the authors of the package.",
            ) from error
    assert members is not None
    return Fetched(wheel=wheel, path=path, members=members)


# --- fetching -------------------------------------------------------------------------------------


class _Connections:
    """The connections to the servers that have the wheels, opened when the first one is needed."""

    def __init__(self, environ: Mapping[str, str], origins: Origins) -> None:
        self._environ = environ
        self._origins = origins
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Fetch nothing more, not even the rest of what is under way."""
        self._stopped = True

    def check(self, url: str) -> None:
        """Refuse an address without TLS, unless it is an index that the operator named so."""
        self.go_on()
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme == "https" or (parts.scheme == "http" and host in self._origins.insecure):
            return
        raise WheelRefused(f"its address does not begin with https: {masked(url)[:200]}")

    def go_on(self) -> None:
        """Refuse when nobody waits for it any more."""
        if self._stopped:
            raise WheelRefused("nobody needs it any more")

    def open(self, url: str) -> urllib3.BaseHTTPResponse:
        """The response to a GET, its body unread."""
        import urllib3

        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        headers = {"Accept-Encoding": "identity", "User-Agent": "chalice-ci"}
        known = self._origins.credentials.get((parts.scheme, host))
        if parts.username is not None:
            known = unquote(parts.username), unquote(parts.password or "")
            url = urlunsplit(parts._replace(netloc=host))
        if known is not None:
            token = base64.b64encode(":".join(known).encode()).decode("ascii")
            headers["Authorization"] = f"Basic {token}"
        retries = urllib3.Retry(
            total=4, redirect=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504)
        )
        return self._pool(parts.scheme, parts.hostname or "").request(
            "GET", url, headers=headers, preload_content=False, retries=retries
        )

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        proxy = self._proxy(scheme, host)
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._made(proxy)
            return self._pools[proxy]

    def _proxy(self, scheme: str, host: str) -> str:
        def told(name: str) -> str:
            return self._environ.get(name) or self._environ.get(name.upper()) or ""

        for exception in told("no_proxy").split(","):
            suffix = exception.strip().partition(":")[0].lstrip(".").lower()
            if suffix and (suffix == "*" or f".{host.lower()}".endswith(f".{suffix}")):
                return ""
        return told(f"{scheme}_proxy") or told("all_proxy")

    def _made(self, proxy: str) -> urllib3.PoolManager:
        import ssl

        import urllib3

        certificates = ca_file(self._environ)
        context = ssl.create_default_context(cafile=certificates and str(certificates))
        timeout = urllib3.Timeout(connect=20, read=60)
        if not proxy:
            return urllib3.PoolManager(
                maxsize=_PARALLEL, ssl_context=context, timeout=timeout, block=False
            )
        parts = urlsplit(proxy)
        headers = None
        if parts.username is not None:
            headers = urllib3.make_headers(
                proxy_basic_auth=f"{parts.username}:{parts.password or ''}"
            )
        return urllib3.ProxyManager(
            proxy,
            proxy_headers=headers,
            maxsize=_PARALLEL,
            ssl_context=context,
            timeout=timeout,
            block=False,
        )


def _copy(wheel: Wheel, source: Path, path: Path) -> None:
    """Take a wheel of this machine: it must still be the one that was locked."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(source, draft)
        if file_sha256(draft) != wheel.sha256:
            raise PackageError(
                f"the wheel of {wheel.name} {wheel.version} changed while it was packaged.",
                where=wheel.filename,
                fix="Run again.",
            )
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _download(wheel: Wheel, path: Path, connections: _Connections) -> str:
    """Fetch to `path`; the answer is the sha256, which is the wanted one if one is wanted."""
    import urllib3

    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        connections.check(wheel.url)
        response = connections.open(wheel.url)
        if response.status != 200:
            raise WheelRefused(f"the server answered {response.status}")
        digest, size = hashlib.sha256(), 0
        with draft.open("wb") as file:
            for chunk in response.stream(_CHUNK):
                connections.go_on()
                size += len(chunk)
                if size > _MAX_WHEEL:
                    raise WheelRefused(f"it is larger than {_MAX_WHEEL // 1024 // 1024} MiB")
                digest.update(chunk)
                file.write(chunk)
        response.release_conn()
        if wheel.sha256 and digest.hexdigest() != wheel.sha256:
            raise WheelRefused("it is not what was locked: its hash is another one")
        draft.replace(path)
    except (WheelRefused, OSError, urllib3.exceptions.HTTPError) as error:
        what = "the wheel" if wheel.filename.endswith(".whl") else "the source"
        raise PackageError(
            f"{what} of {wheel.name} {wheel.version}".rstrip() + " could not be fetched: "
            f"{masked(str(error))[:500]}.",
            where=wheel.filename,
            fix="Look at the index and the connection, and run again.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return digest.hexdigest()


# --- looking into a wheel -------------------------------------------------------------------------


def inspect_wheel(path: Path) -> tuple[Member, ...]:
    """The members of a wheel, each one inflated and compared with what the directory says.

    Raises WheelRefused, zipfile.BadZipFile, zlib.error or ValueError for what is not fit.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_bounds(infos)
        found: dict[str, tuple[zipfile.ZipInfo, int]] = {}
        for info in infos:
            _check_entry(info)
            if info.is_dir():
                continue
            if info.filename in found:
                raise WheelRefused(f"{info.filename!r} is in it twice")
            found[info.filename] = info, _data_offset(file, info)
        digests = _verified(file.fileno(), tuple(found.values()))
        end = archive.start_dir
        ranges = ((i.header_offset, offset + i.compress_size) for i, offset in found.values())
        for start, stop in sorted(ranges, reverse=True):
            if stop > end:
                raise WheelRefused("its entries overlap")
            end = start
    return tuple(
        Member(
            name=info.filename,
            crc=info.CRC,
            size=info.file_size,
            packed=info.compress_size,
            method=info.compress_type,
            offset=offset,
            executable=bool(info.external_attr >> 16 & 0o100),
            sha256=sha256,
        )
        for (info, offset), sha256 in zip(found.values(), digests, strict=True)
    )


def _verified(descriptor: int, entries: Sequence[tuple[zipfile.ZipInfo, int]]) -> tuple[str, ...]:
    """The sha256 of each entry; large ones, whose bytes take longest, beside the others."""
    large = [entry for entry in entries if entry[0].file_size >= _LARGE]
    with ThreadPoolExecutor(max_workers=2) as pool:
        beside = (
            {info.filename: pool.submit(_verify, descriptor, at, info) for info, at in large}
            if len(large) > 1
            else {}
        )
        return tuple(
            beside[info.filename].result()
            if info.filename in beside
            else _verify(descriptor, offset, info)
            for info, offset in entries
        )


def _check_bounds(infos: Sequence[zipfile.ZipInfo]) -> None:
    if len(infos) > _MAX_MEMBERS:
        raise WheelRefused(f"it has more than {_MAX_MEMBERS} entries")
    if sum(info.file_size for info in infos) > _MAX_UNPACKED:
        raise WheelRefused(f"it unpacks to more than {_MAX_UNPACKED // 1024 // 1024} MiB")
    for info in infos:
        if info.file_size > _RATIO_FROM and info.file_size > info.compress_size * _MAX_RATIO:
            raise WheelRefused(f"{info.filename[:80]!r} is a bomb: more than {_MAX_RATIO}:1")


def _check_entry(info: zipfile.ZipInfo) -> None:
    shown = repr(info.filename[:120])
    # zipfile cuts names at a NUL; the original one tells.
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    bad = not name or len(name) > _MAX_NAME or name.startswith("/") or "\\" in name
    if bad or any(part in ("", ".", "..") for part in parts) or _has_control(name):
        raise WheelRefused(f"{shown} is no name for a file in a package")
    if len(parts[0]) == 2 and parts[0][1] == ":":
        raise WheelRefused(f"{shown} names a drive")
    if info.flag_bits & 0x1:
        raise WheelRefused(f"{shown} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WheelRefused(f"{shown} is compressed in an unknown way")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise WheelRefused(f"{shown} is a link or a device")
    if info.is_dir() and info.file_size:
        raise WheelRefused(f"{shown} is a folder with bytes in it")


def _has_control(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return any(ord(character) < 32 or ord(character) == 127 for character in name)


def _data_offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the entry's bytes begin; its local header must tell the same as the directory."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise WheelRefused(f"{info.filename!r} has no header")
    fields = _LOCAL.unpack(header)
    flags, method, name_length, extra_length = fields[2], fields[3], fields[9], fields[10]
    name = file.read(name_length)
    expected = info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace")
    if name != expected or method != info.compress_type:
        raise WheelRefused(f"{info.filename!r} has two different headers")
    return int(info.header_offset) + _LOCAL.size + int(name_length) + int(extra_length)


def _verify(descriptor: int, offset: int, info: zipfile.ZipInfo) -> str:
    """Inflate the entry; its length and checksum must be the announced ones. Answers its sha256."""
    inflater = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
    left, size, crc, digest = info.compress_size, 0, 0, hashlib.sha256()
    while left:
        data = os.pread(descriptor, min(_CHUNK, left), offset)
        if not data:
            raise WheelRefused(f"{info.filename!r} is cut off")
        left -= len(data)
        offset += len(data)
        while data:
            if inflater is None:
                out, data = data, b""
            else:
                out = inflater.decompress(data, _CHUNK)
                data = inflater.unconsumed_tail
                if inflater.unused_data:
                    raise WheelRefused(f"{info.filename!r} hides bytes behind its end")
            size += len(out)
            if size > info.file_size:
                raise WheelRefused(f"{info.filename!r} is longer than it says")
            crc = zlib.crc32(out, crc)
            digest.update(out)
    if inflater is not None and not inflater.eof:
        raise WheelRefused(f"{info.filename!r} is cut off")
    if size != info.file_size or crc != info.CRC:
        raise WheelRefused(f"{info.filename!r} does not match its checksum")
    return digest.hexdigest()


# --- the table beside the wheel -------------------------------------------------------------------


def _known_members(path: Path) -> tuple[Member, ...] | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        note, members = read_table(path.with_suffix(".json"))
        return members if note == {"wheel": path.stem} else None
    return None


def _remember(path: Path, members: tuple[Member, ...]) -> None:
    write_table(path.with_suffix(".json"), members, note={"wheel": path.stem})


def read_table(path: Path) -> tuple[dict[str, Any], tuple[Member, ...]]:
    """The note and the members as written by `write_table`.

    Raises OSError, ValueError, TypeError or KeyError when the file is anything else.
    """
    head, _, body = path.read_text(encoding="utf-8").partition("\n")
    if head != hashlib.sha256(body.encode()).hexdigest():
        raise ValueError("the table does not match its checksum")
    table: dict[str, Any] = json.loads(body)
    if table["format"] != _FORMAT:
        raise ValueError("the table has another format")
    members = tuple(map(Member._make, table["members"]))
    return table["note"], members


def write_table(path: Path, members: Sequence[Member], *, note: Mapping[str, object]) -> None:
    """Keep members and a note in a file, with a checksum, at once or not at all."""
    body = json.dumps({"format": _FORMAT, "note": note, "members": members})
    text = f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
