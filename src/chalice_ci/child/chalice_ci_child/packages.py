"""The packages of a target: never in memory, checked against their digests whenever they are read.

A `Package` stands for a zip in Chalice's plan and in botocore's requests. Where a request is sent,
the zip is streamed in its place, encoded as Lambda wants it, so that memory is a matter neither of
a package's size nor of how many functions there are. With a bucket a package is uploaded once, and
all that need it name the object.

Standard library, botocore and chalice only; Python 3.10.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.exceptions
from chalice.awsclient import AWSClientError

from .codec import CodecError

PREFIX = "chalice-ci/packages/"
"""Where packages lie in a bucket; a lifecycle rule for it removes old ones."""

# A multiple of three: what is encoded of one block goes on with the next.
_BLOCK = 3 * 64 * 1024

# Nobody can put it into an app on purpose.
_NONCE = os.urandom(16).hex()

_MISSING = {"404", "NoSuchKey", "NotFound"}
_THERE = {"412", "PreconditionFailed"}
_BUSY = {"409", "ConditionalRequestConflict"}
_HIDDEN = {"403", "AccessDenied", "Forbidden"}
_ATTEMPTS = 5


class PackageBucketError(AWSClientError):
    """A package can't be placed in the bucket."""


class Package(bytes):
    """A zip that a request holds; its bytes are only a mark where the zip's are to be put."""

    path: str
    sha256: str
    size: int

    @classmethod
    def of(cls, path: str, sha256: str) -> Package:
        """The package in a file; raises CodecError when it is another than the sealed one."""
        package = cls(f"chalice-ci {_NONCE} {sha256}".encode())
        package.path, package.sha256 = path, sha256
        package.size = package.check()
        return package

    @classmethod
    def absent(cls, name: str, sha256: str) -> Package:
        """A package without a file, to be compared only: whoever reads it fails."""
        package = cls(f"chalice-ci {_NONCE} {sha256}".encode())
        package.path, package.sha256, package.size = name, sha256, 0
        return package

    def check(self) -> int:
        """Return the size; raises CodecError when the file is not what was sealed."""
        return sum(len(block) for block in self.blocks())

    @property
    def code_sha256(self) -> str:
        """The digest as Lambda and S3 write it."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode("ascii")

    def blocks(self) -> Iterator[bytes]:
        """Read the file; raises CodecError in place of its end when it is not what was sealed."""
        digest, held = hashlib.sha256(), b""
        with Path(self.path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                if held:
                    yield held
                held = block
        if digest.hexdigest() != self.sha256:
            raise CodecError("a package is not the one that was sealed")
        yield held

    def summary(self) -> dict[str, Any]:
        """What a message says of it."""
        return {"sha256": self.sha256, "size": self.size}


def stream(params: Mapping[str, Any], request: dict[str, Any]) -> None:
    """Put a package's bytes where a serialized request only has its mark."""
    holders: list[Any] = [params, params.get("Code"), params.get("Content")]
    for holder in holders:
        package = holder.get("ZipFile") if isinstance(holder, Mapping) else None
        if isinstance(package, Package):
            before, _, after = request["body"].partition(base64.b64encode(package))
            request["body"] = _Body(package, before, after)


class _Body:
    """A request's body as a file that can be read again from its beginning."""

    def __init__(self, package: Package, before: bytes, after: bytes) -> None:
        self._package = package
        self._before = before
        self._after = after
        self._left: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")
        self._length = len(before) + (package.size + 2) // 3 * 4 + len(after)
        self.seek(0)

    def _pieces(self) -> Iterator[bytes]:
        yield self._before
        for block in self._package.blocks():
            yield base64.b64encode(block)
        yield self._after

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes: a piece, however many are asked for; b"" at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        while not self._piece:
            piece = next(self._left, None)
            if piece is None:
                return b""
            self._piece = memoryview(piece)
        found = bytes(self._piece[:size])
        self._piece = self._piece[size:]
        self._at += len(found)
        return found

    def tell(self) -> int:
        """Where the next byte stands."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to the beginning or to the end; raises io.UnsupportedOperation for elsewhere."""
        if (offset, whence) == (0, os.SEEK_END):
            self._at, self._left = self._length, iter(())
        elif (offset, whence) == (0, os.SEEK_SET):
            self._at, self._left = 0, self._pieces()
        else:
            raise io.UnsupportedOperation("only from the beginning or to the end")
        self._piece = memoryview(b"")
        return self._at


class PackageBucket:
    """Uploads each package once; objects are named by their digests."""

    def __init__(
        self, s3: Callable[[], Any], bucket: str, owner: str, sleep: Callable[[float], None]
    ) -> None:
        self._s3 = s3
        self._where = {"Bucket": bucket, "ExpectedBucketOwner": owner}
        self._sleep = sleep
        self._lock = threading.Lock()
        self._placed: dict[str, dict[str, str]] = {}
        self._encryption: dict[str, str] | None = None

    def place(self, package: Package) -> dict[str, str]:
        """Return Lambda's words for the package's object, which is there when this returns."""
        # One at a time: all functions of a stage wait for the same package.
        with self._lock:
            if package.sha256 not in self._placed:
                self._placed[package.sha256] = self._place(package)
            return self._placed[package.sha256]

    def _place(self, package: Package) -> dict[str, str]:
        key = f"{PREFIX}{package.sha256}.zip"
        found = self._look(key, package)
        if found is None:
            version = self._put(key, package)
            found = self._look(key, package) or {} if version is None else {"VersionId": version}
        version = str(found.get("VersionId") or "")
        # A bucket that never had versions says "null".
        versioned = {"S3ObjectVersion": version} if version not in ("", "null") else {}
        return {"S3Bucket": self._where["Bucket"], "S3Key": key, **versioned}

    def _look(self, key: str, package: Package) -> Mapping[str, Any] | None:
        """The object, or None when it is not there or nobody may look."""
        try:
            found: Mapping[str, Any] = self._s3().head_object(
                Key=key, ChecksumMode="ENABLED", **self._where
            )
        except botocore.exceptions.ClientError as error:
            if _code(error) in _MISSING | _HIDDEN:
                return None
            raise
        checksum = found.get("ChecksumSHA256", package.code_sha256)
        if (found["ContentLength"], checksum) != (package.size, package.code_sha256):
            raise PackageBucketError(
                f"the object {key} in the bucket {self._where['Bucket']} is not the package "
                "that its name says; delete it and deploy again"
            )
        return found

    def _put(self, key: str, package: Package) -> str | None:
        """Upload the package; its version, or None when somebody else was faster."""
        for attempt in range(_ATTEMPTS):
            try:
                with Path(package.path).open("rb") as file:
                    done = self._s3().put_object(
                        Key=key,
                        Body=file,
                        ContentLength=package.size,
                        ContentType="application/zip",
                        # S3 refuses what is not exactly this.
                        ChecksumSHA256=package.code_sha256,
                        IfNoneMatch="*",
                        **self._where,
                        **self._encrypted(),
                    )
                return str(done.get("VersionId") or "")
            except botocore.exceptions.ClientError as error:
                if _code(error) in _THERE:
                    return None
                if _code(error) not in _BUSY or attempt == _ATTEMPTS - 1:
                    raise
                self._sleep(0.2 * 2**attempt)
        return None

    def _encrypted(self) -> dict[str, str]:
        """As the bucket's default says; S3's own keys where it has none or nobody may read it."""
        if self._encryption is None:
            try:
                self._s3().get_bucket_encryption(**self._where)
                self._encryption = {}
            except botocore.exceptions.ClientError:
                self._encryption = {"ServerSideEncryption": "AES256"}
        return self._encryption


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
