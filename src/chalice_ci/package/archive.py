"""Writing the zip: the same files give the same bytes.

Entries are sorted by name, times are 1980-01-01, modes 0644 or 0755, and there are no extra
fields. The members of wheels are copied as they are, already deflated; only the app's own files
are compressed. What the dependencies give is kept as one run of bytes, in the order of the zip, so
that after an edit of the app it is copied in a few long stretches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from packaging.utils import canonicalize_name

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError
from chalice_ci.package.lock import Wheel
from chalice_ci.package.manifest import Archive
from chalice_ci.package.project import Source
from chalice_ci.package.wheels import Fetched, Member, file_sha256, read_table, write_table

_FORMAT = 1
_CHUNK = 1024 * 1024
_DEFLATED = 8
_LEVEL = 6
_DATE = (1 << 5) | 1  # 1980-01-01, the first day that a zip can name
_VERSION = 20
_UNIX = 3
_UTF8 = 0x800
_MAX_ENTRIES = 65_535
_MAX_BYTES = 2**32 - 1
_TRIES = 4
_MAX_OWN = 512 * 1024 * 1024

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")

_UNPACKED_DATA = ("purelib", "platlib")


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """The members of all wheels as one file, sorted, each behind its local header.

    `table` is where that is kept; without a `sha256` it was only just written.
    """

    table: Path
    path: Path
    sha256: str = ""
    members: tuple[Member, ...]
    origins: tuple[str, ...]
    """For each member the name of the distribution."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """An archive and what is in it, sorted by name: each member with the distribution it is from,
    empty for the project's own and Chalice's files.
    """

    archive: Archive
    members: tuple[tuple[Member, str], ...]


class _Corrupt(Exception):
    """The kept dependencies are not what was written."""


def write_archive(
    slot: str,
    *,
    wheels: Sequence[Wheel],
    fetch: Callable[[Sequence[Wheel]], Sequence[Fetched]],
    prefix: str,
    layers: Sequence[Sequence[Source]],
    cache_dir: Path,
    out_dir: Path,
) -> Written:
    """Write one zip to `out_dir`: dependencies below `prefix`, then each group of `layers`.

    A later group takes the place of an earlier file of the same name, as it does when Lambda
    unpacks Chalice's own zip. `fetch` is asked only when these wheels were not spliced before.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out_dir) as spool:
        own: dict[str, Member] = {}
        for group in layers:
            own.update(_compressed(group, spool))
        for _ in range(_TRIES):
            # What is kept may be damaged, or go while it is read.
            with contextlib.suppress(_Corrupt, FileNotFoundError):
                dependencies = _kept(wheels, fetch, prefix, cache_dir)
                return _write(slot, dependencies, own, spool, out_dir)
            for leftover in (cache_dir / "archives").glob(f"{_key(wheels, prefix)}*"):
                leftover.unlink(missing_ok=True)
    raise PackageError(
        "what is kept of the dependencies is damaged again and again.",
        where=str(cache_dir),
        fix="Look at the disk, or take another folder with --cache-dir.",
    )


# --- the app's own files --------------------------------------------------------------------------


def _compressed(sources: Iterable[Source], spool: IO[bytes]) -> Iterator[tuple[str, Member]]:
    for source in sources:
        try:
            descriptor = os.open(
                source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise PackageError(
                f"this file cannot be read: {error.strerror}.",
                where=source.name,
                fix="Let the user that packages read it, or take it out.",
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PackageError(
                    "this is not a file any more.",
                    where=source.name,
                    fix="Run again when nothing writes to the project.",
                )
            yield source.name, _deflate(source, file, spool)


def _deflate(source: Source, file: IO[bytes], spool: IO[bytes]) -> Member:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    offset, size, crc, digest = spool.tell(), 0, 0, hashlib.sha256()
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
        digest.update(chunk)
        spool.write(deflater.compress(chunk))
        if spool.tell() > _MAX_OWN or size > _MAX_OWN:
            raise PackageError(
                "the app's own files are larger than Lambda takes.",
                where=source.name,
                fix="Take out what the app does not use, or let it fetch large files from a "
                "bucket.",
            )
    spool.write(deflater.flush())
    return Member(
        name=source.name,
        crc=crc,
        size=size,
        packed=spool.tell() - offset,
        method=_DEFLATED,
        offset=offset,
        executable=source.executable,
        sha256=digest.hexdigest(),
    )


# --- the dependencies -----------------------------------------------------------------------------


def placed(fetched: Fetched) -> Iterator[Member]:
    """The members of a wheel under the names that they have in the package.

    As Chalice unpacks wheels: `*.data/purelib` and `platlib` go to the top and win there, the
    other folders of `*.data` stay, and the package `chalice` is left out.
    """
    data: list[Member] = []
    plain: list[Member] = []
    for member in fetched.members:
        top, _, rest = member.name.partition("/")
        kind, _, inner = rest.partition("/")
        if inner and kind in _UNPACKED_DATA and _is_data(top, fetched):
            data.append(member._replace(name=inner))
        else:
            plain.append(member)
    for member in (*plain, *data):
        if not member.name.startswith("chalice/"):
            yield member


def _is_data(folder: str, fetched: Fetched) -> bool:
    if not folder.endswith(".data"):
        return False
    name, _, version = folder.removesuffix(".data").partition("-")
    locked = fetched.wheel.filename.split("-")[:2]
    return [canonicalize_name(name), version] == [canonicalize_name(locked[0]), locked[1]]


def _key(wheels: Sequence[Wheel], prefix: str) -> str:
    told = [_FORMAT, prefix, [[wheel.sha256, wheel.name, wheel.filename] for wheel in wheels]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _kept(
    wheels: Sequence[Wheel],
    fetch: Callable[[Sequence[Wheel]], Sequence[Fetched]],
    prefix: str,
    cache_dir: Path,
) -> Dependencies | None:
    if not wheels:
        return None
    folder = cache_dir / "archives"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _key(wheels, prefix)
    table = folder / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        note, members = read_table(table)
        sha256, origins = str(note["sha256"]), tuple(note["origins"])
        path = folder / f"{key}-{sha256}.bin"
        if re.fullmatch(r"[0-9a-f]{64}", sha256) and path.is_file():
            if len(origins) != len(members):
                raise ValueError("the table is incomplete")
            mark_used(table, path)
            return Dependencies(
                table=table, path=path, sha256=sha256, members=members, origins=origins
            )
    return _spliced(fetch(wheels), prefix, table)


def _spliced(fetched: Sequence[Fetched], prefix: str, table: Path) -> Dependencies:
    chosen: dict[str, tuple[Member, Fetched]] = {}
    for one in fetched:
        for member in placed(one):
            name = f"{prefix}{member.name}"
            chosen[name] = (member._replace(name=name), one)
    draft = table.with_name(f".{table.stem}.{secrets.token_hex(4)}")
    members: list[Member] = []
    opened: dict[Path, IO[bytes]] = {}
    try:
        with contextlib.ExitStack() as files, draft.open("wb") as out:
            position = 0
            for name in sorted(chosen, key=str.encode):
                member, one = chosen[name]
                if one.path not in opened:
                    opened[one.path] = files.enter_context(one.path.open("rb"))
                source = opened[one.path]
                header = _local(member)
                out.write(header)
                position += len(header)
                source.seek(member.offset)
                for chunk in _read(source, member.packed):
                    out.write(chunk)
                members.append(member._replace(offset=position))
                position += member.packed
                _check_room(position, len(members))
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    origins = tuple(chosen[member.name][1].wheel.name for member in members)
    return Dependencies(table=table, path=draft, members=tuple(members), origins=origins)


def _settle(dependencies: Dependencies, sha256: str) -> None:
    """Keep what was just written under its hash; raise _Corrupt when it is not what was kept."""
    if dependencies.sha256:
        if dependencies.sha256 != sha256:
            raise _Corrupt
        return
    table = dependencies.table
    dependencies.path.replace(table.with_name(f"{table.stem}-{sha256}.bin"))
    note = {"sha256": sha256, "origins": list(dependencies.origins)}
    write_table(table, dependencies.members, note=note)


# --- the zip --------------------------------------------------------------------------------------


def _write(
    slot: str,
    dependencies: Dependencies | None,
    own: dict[str, Member],
    spool: IO[bytes],
    out_dir: Path,
) -> Written:
    entries: dict[str, tuple[Member, str, bool]] = {}
    if dependencies is not None:
        for member, origin in zip(dependencies.members, dependencies.origins, strict=True):
            entries[member.name] = (member, origin, True)
    for name, member in own.items():
        entries[name] = (member, "", False)
    _check_folders(entries)
    ordered = [entries[name] for name in sorted(entries, key=str.encode)]
    draft = out_dir / f".{slot}.{secrets.token_hex(4)}"
    try:
        with contextlib.ExitStack() as stack:
            out = _Out(stack.enter_context(draft.open("wb")))
            whole = None
            kept: IO[bytes] | None = None
            if dependencies is not None:
                kept = stack.enter_context(dependencies.path.open("rb"))
                # While it is copied, another thread says what it is.
                pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
                whole = pool.submit(file_sha256, dependencies.path)
            places = list(_copied(ordered, spool, kept, out))
            _directory([member for member, _, _ in ordered], places, out)
            if whole is not None and dependencies is not None:
                _settle(dependencies, whole.result())
        sha256 = out.digest.hexdigest()
        path = out_dir / f"{slot}-{sha256[:32]}.zip"
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
        if dependencies is not None and not dependencies.sha256:
            dependencies.path.unlink(missing_ok=True)
    return Written(
        archive=Archive(
            slot=slot,
            path=path,
            sha256=sha256,
            size=out.position,
            unpacked_size=sum(member.size for member, _, _ in ordered),
            entries=len(ordered),
        ),
        members=tuple((member, origin) for member, origin, _ in ordered),
    )


def _check_folders(entries: Mapping[str, tuple[Member, str, bool]]) -> None:
    """Refuse a file that has the name of a folder: nothing can unpack both."""
    pending = {name.rpartition("/")[0] for name in entries}
    folders: set[str] = set()
    while pending:
        folders |= pending
        pending = {folder.rpartition("/")[0] for folder in pending} - folders
    for name in sorted(folders & entries.keys()):
        inner = next(inner for inner in sorted(entries) if inner.startswith(f"{name}/"))
        one, other = (entries[entry][1] or "the project" for entry in (name, inner))
        raise PackageError(
            f"this is a file of {one} and a folder of {other}: a package cannot have both.",
            where=ascii(name)[1:-1][:200],
            fix="Rename it in the project, or take one of the two out.",
        )


class _Out:
    """A file that is hashed and counted while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.position = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.position += len(data)


def _copied(
    ordered: Sequence[tuple[Member, str, bool]],
    spool: IO[bytes],
    kept: IO[bytes] | None,
    out: _Out,
) -> Iterator[int]:
    """Write all members; answers where each one's local header is."""
    start = stop = 0

    def flush() -> None:
        if kept is not None and stop > start:
            kept.seek(start)
            for chunk in _read(kept, stop - start):
                out.write(chunk)

    for index, (member, _, is_kept) in enumerate(ordered, start=1):
        if is_kept:
            # Its header is in front of it already; neighbours are copied together.
            begin = member.offset - _LOCAL.size - len(member.name.encode())
            if begin != stop:
                flush()
                start = begin
            stop = member.offset + member.packed
            yield out.position + (begin - start)
        else:
            flush()
            start = stop = 0
            yield out.position
            out.write(_local(member))
            spool.seek(member.offset)
            for chunk in _read(spool, member.packed):
                out.write(chunk)
        _check_room(out.position + (stop - start), index)
    flush()


def _directory(members: Sequence[Member], places: Sequence[int], out: _Out) -> None:
    begin = out.position
    for member, place in zip(members, places, strict=True):
        name = member.name.encode()
        mode = stat.S_IFREG | (0o755 if member.executable else 0o644)
        fields = (
            b"PK\x01\x02",
            _UNIX << 8 | _VERSION,
            _VERSION,
            _flags(name),
            member.method,
            0,
            _DATE,
            member.crc,
            member.packed,
            member.size,
            len(name),
            0,
            0,
            0,
            0,
            mode << 16,
            place,
        )
        out.write(_CENTRAL.pack(*fields) + name)
    size = out.position - begin
    _check_room(out.position, len(members))
    out.write(_END.pack(b"PK\x05\x06", 0, 0, len(members), len(members), size, begin, 0))


def _local(member: Member) -> bytes:
    name = member.name.encode()
    fields = (
        b"PK\x03\x04",
        _VERSION,
        _flags(name),
        member.method,
        0,
        _DATE,
        member.crc,
        member.packed,
        member.size,
        len(name),
        0,
    )
    return _LOCAL.pack(*fields) + name


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else _UTF8


def _read(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            raise _Corrupt
        size -= len(chunk)
        yield chunk


def _check_room(position: int, entries: int) -> None:
    if position > _MAX_BYTES or entries > _MAX_ENTRIES:
        raise PackageError(
            f"the package has more than {_MAX_ENTRIES} files or 4 GiB.",
            fix="Take dependencies out, or deploy them as a container image.",
        )
