"""States in a bucket: the contract of every store, and what is S3's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import test_state_stores as contract
from chalice_ci.errors import AWSError, StateNotRecorded, UsageError
from chalice_ci.local import EmbeddedAWS
from chalice_ci.state.s3 import S3Store
from chalice_ci.state.store import ABSENT, JournalChange, StateKey
from support.statewriter import marked, message, open_store

DEV = StateKey(app_path=".", stage="dev")
ORDERS = StateKey(app_path="services/orders", stage="dev")
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as server:
        yield server


def s3(aws: EmbeddedAWS) -> Any:
    session = boto3.Session("embedded", "embedded", region_name="us-east-1")
    return session.client("s3", endpoint_url=aws.endpoint_url)


@pytest.fixture
def bucket(aws: EmbeddedAWS) -> str:
    name = f"states-{next(_NUMBERS)}"
    client = s3(aws)
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def place(aws: EmbeddedAWS, bucket: str, tmp_path: Path) -> contract.Place:
    return contract.Place(kind="s3", address=f"{aws.endpoint_url} {bucket}", work_dir=tmp_path)


class TestEveryStore(contract.TestEveryStore):
    """The contract, in a bucket."""


def test_a_state_is_chalices_own_file_and_each_version_is_kept(
    aws: EmbeddedAWS, bucket: str, place: contract.Place
) -> None:
    store = place.open()
    first = store.write(ORDERS, marked("a"), expected=ABSENT, message=message("dev"))
    store.write(ORDERS, marked("b"), expected=first.version, message=message("dev"))
    versions = s3(aws).list_object_versions(Bucket=bucket)["Versions"]
    file = "states/services/orders/.chalice/deployed/dev.json"
    assert [one["Key"] for one in versions] == [file, file]
    head = s3(aws).head_object(Bucket=bucket, Key=file)
    assert head["ServerSideEncryption"] == "AES256"


def test_everything_is_encrypted_by_the_key_that_was_given(aws: EmbeddedAWS, bucket: str) -> None:
    kms = boto3.Session("embedded", "embedded", region_name="us-east-1").client(
        "kms", endpoint_url=aws.endpoint_url
    )
    key = kms.create_key()["KeyMetadata"]["Arn"]
    store = S3Store(lambda: s3(aws), bucket=bucket, kms_key=key)
    journal = JournalChange(raw=b"{}", expected=ABSENT)
    kept = store.keep_journal(DEV, journal, state=ABSENT, message=message("dev"))
    store.write(
        DEV,
        marked("a"),
        expected=ABSENT,
        message=message("dev"),
        snapshot=b"1",
        journal=JournalChange(raw=b"[]", expected=kept),
    )
    for file in (DEV.file, DEV.snapshot_file, DEV.journal_file):
        head = s3(aws).head_object(Bucket=bucket, Key=file)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key), file


def test_a_key_that_is_refused_is_an_error_in_words_before_anything_is_there(
    aws: EmbeddedAWS, bucket: str
) -> None:
    denied = {"status": 403, "code": "KMS.DisabledException", "message": "the key is disabled"}
    aws.order_faults([{"service": "s3", "operation": "PutObject", **denied}])
    store = S3Store(lambda: s3(aws), bucket=bucket, kms_key="alias/off")
    with pytest.raises(StateNotRecorded, match="the key is disabled"):
        store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
    aws.order_faults([])
    assert store.keys() == ()


def test_a_bucket_without_versions_is_refused(
    aws: EmbeddedAWS, place: contract.Place, bucket: str
) -> None:
    s3(aws).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(UsageError, match="keeps no versions"):
        place.open().write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
    assert place.open().read(DEV).state is None


def test_a_bucket_that_is_not_there_is_an_error_in_words(aws: EmbeddedAWS, tmp_path: Path) -> None:
    store = open_store("s3", f"{aws.endpoint_url} nowhere", tmp_path)
    with pytest.raises(AWSError, match="cannot be read") as told:
        store.keys()
    assert "s3://nowhere" in str(told.value)
    with pytest.raises(StateNotRecorded, match="could not be written"):
        store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))


def test_a_write_whose_answer_was_lost_counts(aws: EmbeddedAWS, place: contract.Place) -> None:
    """The SDK repeats it, and S3 says that the condition does not hold any more."""
    store = place.open()
    store.read(DEV)
    aws.order_faults(
        [{"service": "s3", "operation": "PutObject", "when": "after", "action": "drop"}]
    )
    written = store.write(DEV, marked("a"), expected=ABSENT, message=message("dev"))
    aws.order_faults([])
    assert written.changed
    assert place.open().read(DEV).version == written.version
