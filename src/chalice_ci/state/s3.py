"""States in an S3 bucket: `<prefix>/<app path>/.chalice/deployed/<stage>.json`, Chalice's own form.

Each object is replaced by a conditional write (`If-Match` with the ETag that was read,
`If-None-Match: *` for a new one): compare-and-swap by S3 itself. Several objects cannot be replaced
at once: the old snapshot goes before the new state comes, and the journal is closed last, so that
killed in between an open journal tells the next deploy to look.

The bucket has to keep versions, which are the history; objects are encrypted by the KMS key that
was given, else as the bucket's default says, else by S3's own keys.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.errors import AWSError, StateNotRecorded, UsageError
from chalice_ci.snapshot_document import MAX_BYTES as MAX_SNAPSHOT_BYTES
from chalice_ci.state.plans import PlanName
from chalice_ci.state.releases import MAX_BYTES as MAX_RELEASES_BYTES
from chalice_ci.state.schema import MAX_BYTES, StageState, StateDamaged, parse_v2, render
from chalice_ci.state.store import (
    ABSENT,
    JournalChange,
    Kept,
    StateKey,
    Stored,
    Written,
    keys_of,
    moved,
    refuse_case_collision,
)

ATTEMPTS = 8
_LOST = {"PreconditionFailed", "412"}
_BUSY = {"ConditionalRequestConflict", "409"}
_PLANS = "chalice-ci/plans/"
_NONE = {"NoSuchKey", "404", "NotFound"}


class _Moved(Exception):
    """The object is not the expected one."""


class S3Store:
    """States in a bucket; see the module. `client` is boto3's for S3."""

    def __init__(
        self,
        client: Callable[[], Any],
        *,
        bucket: str,
        prefix: str = "",
        kms_key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._make = client
        self._made: Any = None
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._kms_key = kms_key
        self._sleep = sleep
        self._jitter = jitter
        self._encryption: dict[str, str] | None = None

    def read(self, key: StateKey) -> Stored:
        """The state's object; `version` is its ETag."""
        with self._readable(key):
            raw, version = self._get(key.file, MAX_BYTES)
            journal, kept = self._get(key.journal_file, MAX_BYTES)
        return Stored(
            state=None if raw is None else parse_v2(raw, where=self._where(key.file)),
            version=version,
            journal=Kept(raw=journal, version=kept),
        )

    def snapshot(self, key: StateKey) -> bytes | None:
        """The snapshot's object."""
        with self._readable(key):
            return self._get(key.snapshot_file, MAX_SNAPSHOT_BYTES)[0]

    def releases(self, key: StateKey) -> bytes | None:
        """The object of the list of releases."""
        with self._readable(key):
            return self._get(key.releases_file, MAX_RELEASES_BYTES)[0]

    def write(
        self,
        key: StateKey,
        state: StageState | None,
        *,
        expected: str,
        message: str,
        snapshot: bytes | None = None,
        journal: JournalChange | None = None,
        releases: bytes | None = None,
    ) -> Written:
        """Replace the objects; `message` is not kept, the versions of a bucket have none.

        A state that is there already counts as written, whatever `expected` says.
        """
        del message
        new = None if state is None else render(state)
        with self._writable(key):
            raw, version = self._get(key.file, MAX_BYTES)
            beside, seen = self._get(key.snapshot_file, MAX_SNAPSHOT_BYTES)
            kept, standing = self._get(key.journal_file, MAX_BYTES)
            closes = journal is not None and kept != journal.raw
            listed, place = releases, ABSENT
            if releases is not None or state is None:
                listed, place = self._get(key.releases_file, MAX_RELEASES_BYTES)
            lists = listed != releases
            if raw == new and beside == snapshot and not closes and not lists:
                return Written(changed=False, version=version)
            if version != expected or (journal is not None and standing != journal.expected):
                raise _Moved
            if raw is None and new is not None:
                refuse_case_collision(key, self._keys())
            if beside is not None and beside != snapshot:
                self._delete(key.snapshot_file, seen)
                seen = ABSENT
            if raw != new:
                version = self._replace(key.file, JournalChange(raw=new, expected=version))
            if snapshot is not None and beside != snapshot:
                self._put(key.snapshot_file, snapshot, seen)
            if lists:
                self._replace(key.releases_file, JournalChange(raw=releases, expected=place))
            if journal is not None and closes:
                self._replace(key.journal_file, journal)
        return Written(changed=True, version=version)

    def keep_journal(
        self, key: StateKey, journal: JournalChange, *, state: str, message: str
    ) -> str:
        """Replace the journal's object, and put it back when the state turns out to have moved."""
        del message
        with self._writable(key):
            kept, version = self._get(key.journal_file, MAX_BYTES)
            if kept == journal.raw and kept is not None:
                return version
            if version != journal.expected or self._version(key.file) != state:
                raise _Moved
            version = self._replace(key.journal_file, journal)
            if journal.raw is not None and self._version(key.file) != state:
                self._replace(key.journal_file, JournalChange(raw=kept, expected=version))
                raise _Moved
        return version

    def keys(self) -> tuple[StateKey, ...]:
        """Every state in the bucket below the prefix."""
        with self._readable(None):
            return self._keys()

    def known(self) -> tuple[StateKey, ...]:
        """Every state and every journal in the bucket below the prefix."""
        with self._readable(None):
            return self._keys(StateKey.of_either)

    # -- plans on their way ---------------------------------------------------------------------

    def keep_plan(self, name: PlanName, file: Path) -> None:
        """An object below the prefix; one that is there already holds what has this digest."""
        with self._keeping(name), file.open("rb") as body:
            self._client.put_object(
                Bucket=self._bucket, Key=self._plan(name), Body=body, **self._encrypted()
            )

    def fetch_plan(self, name: PlanName, into: Path) -> bool:
        """The object's bytes."""
        with self._keeping(name):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._plan(name))
            except ClientError as error:
                if _code(error) in _NONE:
                    return False
                raise
            with found["Body"] as body, into.open("wb") as file:
                shutil.copyfileobj(body, file)
        return True

    def kept_plans(self) -> tuple[PlanName, ...]:
        """The objects that are named like plans."""
        before = f"{self._prefix}{_PLANS}"
        with self._readable(None):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=before
            )
            names = [item["Key"] for page in pages for item in page.get("Contents", ())]
        found = (PlanName.of(n.removeprefix(before).removesuffix(".plan")) for n in names)
        return tuple(sorted(name for name in found if name is not None))

    def drop_plan(self, name: PlanName) -> None:
        """Delete the object; a version of it stays until the bucket's lifecycle takes it."""
        with self._keeping(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._plan(name))

    def _plan(self, name: PlanName) -> str:
        return f"{self._prefix}{_PLANS}{name}.plan"

    @contextmanager
    def _keeping(self, name: PlanName) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise StateNotRecorded(
                f"The kept plan can't be reached: {error}.",
                where=f"s3://{self._bucket}/{self._plan(name)}",
                fix="See that the bucket is there and that the job may read, put and delete in it.",
            ) from error

    # -- objects ------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _keys(
        self, key_of: Callable[[str], StateKey | None] = StateKey.of_file
    ) -> tuple[StateKey, ...]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        names = (item["Key"] for page in pages for item in page.get("Contents", ()))
        return keys_of((name.removeprefix(self._prefix) for name in names), key_of)

    def _get(self, file: str, limit: int) -> tuple[bytes | None, str]:
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + file)
        except ClientError as error:
            if _code(error) in _NONE:
                return None, ABSENT
            raise
        with found["Body"] as body:
            raw: bytes = body.read(limit + 1)
        if len(raw) > limit:
            raise StateDamaged(
                f"The object has more than {limit} bytes.",
                where=self._where(file),
                fix="Restore an earlier version of it.",
            )
        return raw, str(found["ETag"])

    def _version(self, file: str) -> str:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + file)
        except ClientError as error:
            if _code(error) in _NONE:
                return ABSENT
            raise
        return str(found["ETag"])

    def _replace(self, file: str, change: JournalChange) -> str:
        if change.raw is None:
            self._delete(file, change.expected)
            return ABSENT
        return self._put(file, change.raw, change.expected)

    def _put(self, file: str, data: bytes, expected: str) -> str:
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}

        def put() -> str:
            done = self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + file,
                Body=data,
                ContentType="application/json",
                **condition,
                **self._encrypted(),
            )
            return str(done["ETag"])

        try:
            version: str = self._patiently(put)
        except _Moved:
            # Also when our own request came through and only its answer was lost.
            raw, version = self._get(file, max(MAX_BYTES, MAX_SNAPSHOT_BYTES))
            if raw != data:
                raise
        return version

    def _delete(self, file: str, expected: str) -> None:
        if not expected:
            return
        name = self._prefix + file
        self._patiently(
            lambda: self._client.delete_object(Bucket=self._bucket, Key=name, IfMatch=expected)
        )

    def _patiently(self, call: Callable[[], Any]) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except ClientError as error:
                if _code(error) in _LOST or _code(error) in _NONE:
                    raise _Moved from error
                if _code(error) not in _BUSY or attempt == ATTEMPTS - 1:
                    raise
                self._sleep(self._jitter() * 0.1 * 2**attempt)
        raise _Moved

    def _encrypted(self) -> dict[str, str]:
        """What a write says about encryption; looked up once, with the bucket's versions."""
        if self._encryption is None:
            status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
            if status != "Enabled":
                raise UsageError(
                    f"The bucket {self._bucket} keeps no versions, so a state that is overwritten "
                    "would be lost.",
                    where="state.bucket",
                    fix="Turn on versioning: aws s3api put-bucket-versioning --bucket "
                    f"{self._bucket} --versioning-configuration Status=Enabled",
                )
            self._encryption = self._chosen_encryption()
        return self._encryption

    def _chosen_encryption(self) -> dict[str, str]:
        if self._kms_key is not None:
            return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._kms_key}
        try:
            self._client.get_bucket_encryption(Bucket=self._bucket)
        except ClientError:
            # No default of its own, or no permission to read it: S3's own keys.
            return {"ServerSideEncryption": "AES256"}
        return {}

    # -- errors -------------------------------------------------------------------------------

    @contextmanager
    def _readable(self, key: StateKey | None) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise AWSError(
                f"The state cannot be read: {error}.",
                where=self._where("" if key is None else key.file),
                fix="See that the bucket is there and that the job may list and read it.",
            ) from error

    @contextmanager
    def _writable(self, key: StateKey) -> Iterator[None]:
        try:
            yield
        except _Moved:
            raise moved(key, where=self._where(key.file)) from None
        except (ClientError, BotoCoreError) as error:
            raise StateNotRecorded(
                f"The state could not be written: {error}.",
                where=self._where(key.file),
                fix="See that the bucket is there and that the job may read, put and delete in it.",
            ) from error

    def _where(self, file: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{file}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
