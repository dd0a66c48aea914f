"""How packages reach AWS: streamed, each once through a bucket, never more than Chalice sends."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

import chalice_ci
from chalice_ci import aws_names
from chalice_ci.app.deployer import Call, Deployer, Identity, Target
from chalice_ci.app.deployers import Deployers
from chalice_ci.errors import AWSError, NotOurs
from chalice_ci.local import EmbeddedAWS, LocalMode
from chalice_ci.ownership import Guard, owner_of
from support.awsclients import clients_of
from support.deployments import Recorder
from support.shapes import ACCOUNT, REGION, apply_change
from support.stages import PYTHON, Stage, stage_on

sys.path.insert(0, str(Path(chalice_ci.__file__).parent / "child"))
from chalice_ci_child import packages
from chalice_ci_child.codec import CodecError
from chalice_ci_child.pace import WIDEST, Pace

sys.path.pop(0)

BUCKET = "packages-of-the-team"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture(scope="module")
def deployers(server: EmbeddedAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployers]:
    with Deployers(server.environ, tmp_path_factory.mktemp("run"), poll_seconds=0.2) as lending:
        yield lending


@pytest.fixture
def stage(server: EmbeddedAWS, tmp_path: Path, deployers: Deployers) -> Callable[[str], Stage]:
    server.reset()
    server.order_faults([])
    return lambda name: Stage(name, server, tmp_path, deployers)


@pytest.fixture
def with_bucket(stage: Callable[[str], Stage]) -> Callable[[str], Stage]:
    def make(name: str) -> Stage:
        it = stage(name)
        clients_of(it.aws)("s3").create_bucket(Bucket=BUCKET)
        clients_of(it.aws)("s3").put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
        )
        it.bucket = BUCKET
        it.aws.forget_calls()
        return it

    return make


def sent(it: Stage, operation: str) -> list[int]:
    """The sizes of the bodies of an operation's calls, in order."""
    return [int(call["bytes"]) for call in it.aws.calls() if call["operation"] == operation]


def live_code(it: Stage) -> set[str]:
    found = clients_of(it.aws)("lambda").list_functions()["Functions"]
    return {function["CodeSha256"] for function in found}


def code_of(what: Target, slot: str = "app") -> str:
    return base64.b64encode(bytes.fromhex(what.packages[slot].sha256)).decode()


# -- through a bucket -----------------------------------------------------------------------------


def test_a_package_is_uploaded_once_for_all_functions_and_not_again_when_it_comes_back(
    with_bucket: Callable[[str], Stage],
) -> None:
    it = with_bucket("functions")
    what = it.target()
    original = (it.project / "app.py").read_text(encoding="utf-8")
    it.deploy().check()
    assert len(it.names()) > 2, "several functions are the point"
    assert sent(it, "PutObject") == [what.packages["app"].path.stat().st_size]
    assert max(sent(it, "CreateFunction")) < 2000
    assert live_code(it) == {code_of(what)}
    key = f"chalice-ci/packages/{what.packages['app'].sha256}.zip"
    found = clients_of(it.aws)("s3").get_object(Bucket=BUCKET, Key=key)
    assert found["Body"].read() == what.packages["app"].path.read_bytes()
    assert found["ServerSideEncryption"] == "AES256"
    (it.project / "app.py").write_text(f"{original}\n# changed\n", encoding="utf-8")
    it.deploy().check()
    (it.project / "app.py").write_text(original, encoding="utf-8")
    it.deploy().check()
    assert len(sent(it, "PutObject")) == 2, "what was there before is still there"
    assert max(sent(it, "UpdateFunctionCode")) < 2000
    assert live_code(it) == {code_of(what)}
    it.aws.forget_calls()
    it.deploy().check()
    assert it.mutations() == []


def test_a_layer_goes_through_the_bucket_and_is_published_once(
    with_bucket: Callable[[str], Stage],
) -> None:
    it = with_bucket("automatic_layer")
    it.deploy().check()
    assert len(sent(it, "PutObject")) == 2
    assert max(sent(it, "PublishLayerVersion")) < 2000
    app = it.project / "app.py"
    app.write_text(f"{app.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
    it.deploy().check()
    assert len(sent(it, "PutObject")) == 3, "the layer is the same"
    assert len(sent(it, "PublishLayerVersion")) == 1


def test_somebody_who_was_faster_uploaded_the_same(with_bucket: Callable[[str], Stage]) -> None:
    it = with_bucket("schedule")
    what = it.target()
    s3 = clients_of(it.aws)("s3")
    key = f"chalice-ci/packages/{what.packages['app'].sha256}.zip"

    class Faster(Recorder):
        def allow(self, call: Call) -> None:
            super().allow(call)
            if call.operation == "PutObject":
                s3.put_object(Bucket=BUCKET, Key=key, Body=what.packages["app"].path.read_bytes())

    it.deploy(Faster()).check()
    assert live_code(it) == {code_of(what)}
    versions = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert len(versions) == 1, "nothing was overwritten"


def test_an_object_that_is_not_what_its_name_says_is_refused(
    with_bucket: Callable[[str], Stage],
) -> None:
    it = with_bucket("schedule")
    key = f"chalice-ci/packages/{it.target().packages['app'].sha256}.zip"
    clients_of(it.aws)("s3").put_object(Bucket=BUCKET, Key=key, Body=b"something else")
    outcome = it.deploy()
    assert isinstance(outcome.error, AWSError)
    assert "is not the package that its name says" in " ".join(str(outcome.error).split())
    assert "lambda:CreateFunction" not in it.mutations()


@pytest.mark.parametrize(
    ("bucket", "key", "allowed"),
    [
        (BUCKET, "chalice-ci/packages/00.zip", True),
        (BUCKET, "states/prod.json", False),
        ("another", "chalice-ci/packages/00.zip", False),
    ],
)
def test_only_packages_are_put_only_into_the_configured_bucket(
    bucket: str, key: str, allowed: bool
) -> None:
    target = Target(app_name="shop", stage="dev", graph=None, package_bucket=BUCKET)
    owner = owner_of(target, Identity(account=ACCOUNT, region=REGION, arn="arn"))

    def none(service: str) -> Any:
        raise AssertionError(f"{service} is not asked")

    call = Call(
        number=1,
        service="s3",
        operation="PutObject",
        params={"Bucket": bucket, "Key": key},
        method="create_function",
        resource="worker",
    )
    guard = Guard(owner, none)
    if allowed:
        guard.allow(call)
    else:
        with pytest.raises(NotOurs, match="nothing is changed"):
            guard.allow(call)


def test_the_deployer_and_its_guard_mean_the_same_place() -> None:
    assert packages.PREFIX == aws_names.PACKAGES


# -- without one ----------------------------------------------------------------------------------


def test_waiting_for_a_young_role_sends_the_package_no_more_often_than_chalice(
    tmp_path: Path,
) -> None:
    with stage_on(LocalMode(pend=0.3, upd=0.3, role=1.5), "schedule", tmp_path) as it:
        size = it.target().packages["app"].path.stat().st_size
        it.deploy().check()
        created = sent(it, "CreateFunction")
        assert len(created) > 2, "the role was waited for"
        assert created[0] > size
        assert max(created[1:]) < 3000
        assert len(sent(it, "UpdateFunctionCode")) == 1
        assert live_code(it) == {code_of(it.target())}
        assert sum(created) + sum(sent(it, "UpdateFunctionCode")) < 3 * size * 4 / 3 + 30_000
        it.aws.forget_calls()
        it.deploy().check()
        assert it.mutations() == []


def test_a_killed_deploy_with_a_stand_in_is_put_right_by_the_next(tmp_path: Path) -> None:
    with stage_on(LocalMode(pend=0.3, upd=0.3, role=1.0), "schedule", tmp_path) as it:
        it.aws.order_faults([{"operation": "UpdateFunctionCode", "status": 403, "code": "Denied"}])
        assert it.deploy().error is not None
        assert live_code(it) != {code_of(it.target())}
        it.deploy().check()
        assert live_code(it) == {code_of(it.target())}


def test_memory_is_a_matter_neither_of_the_package_nor_of_the_functions(
    stage: Callable[[str], Stage],
) -> None:
    """Chalice holds one copy of the zip for each function, and botocore five for each request."""
    it, peaks = stage("functions"), {}
    library = it.project / "chalicelib"
    library.mkdir(exist_ok=True)
    (library / "__init__.py").touch()
    for megabytes in (0, 24):
        (library / "model.bin").write_bytes(random.Random(0).randbytes(megabytes << 20))
        what = it.target()
        with it.start() as deployer:
            expected = deployer.plan(what)
            deployer.apply(what, expected, gate=Recorder()).check()
            peaks[megabytes] = peak_of(deployer)
        assert live_code(it) == {code_of(what)}
    assert peaks[24] - peaks[0] < 12 << 20


def peak_of(deployer: Deployer) -> int:
    """The peak of the child's resident memory, in bytes."""
    status = Path(f"/proc/{deployer.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


# -- bodies ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=600_000), sizes=st.lists(st.integers(1, 70_000), min_size=1))
def test_a_streamed_body_is_what_botocore_would_have_sent(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("zip") / "package.zip"
    path.write_bytes(data)
    package = packages.Package.of(str(path), hashlib.sha256(data).hexdigest())
    mark = base64.b64encode(package)
    request = {"body": b'{"Code": {"ZipFile": "' + mark + b'"}}'}
    packages.stream({"Code": {"ZipFile": package}}, request)
    body: Any = request["body"]
    wanted = b'{"Code": {"ZipFile": "' + base64.b64encode(data) + b'"}}'
    body.seek(0, os.SEEK_END)
    assert body.tell() == len(wanted)
    for _ in range(2):
        body.seek(0)
        found, turn = b"", 0
        while piece := body.read(sizes[turn % len(sizes)]):
            found += piece
            turn += 1
        assert found == wanted
        assert body.tell() == len(wanted)
    with pytest.raises(io.UnsupportedOperation):
        body.seek(7)


def test_a_package_that_changed_is_never_sent_whole(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(b"sealed" * 100)
    package = packages.Package.of(str(path), hashlib.sha256(b"sealed" * 100).hexdigest())
    request: dict[str, Any] = {"body": base64.b64encode(package)}
    packages.stream({"ZipFile": package}, request)
    path.write_bytes(b"forged" * 100)
    with pytest.raises(CodecError, match="not the one that was sealed"):
        request["body"].read()
    with pytest.raises(CodecError, match="not the one that was sealed"):
        packages.Package.of(str(path), package.sha256)


# -- pace -----------------------------------------------------------------------------------------


def test_the_pace_halves_once_for_a_jam_and_recovers_slowly() -> None:
    now = [100.0]
    pace = Pace(WIDEST, clock=lambda: now[0])
    for _ in range(5):
        pace.slow_down()
    assert pace.width == WIDEST // 2, "calls that are refused together tell of one jam"
    for _ in range(20):
        now[0] += 1
        pace.slow_down()
    assert pace.width == 1
    for _ in range(8):
        pace.enter(lambda: None)
        pace.leave()
    assert pace.width == 3
    for _ in range(400):
        pace.enter(lambda: None)
        pace.leave()
    assert pace.width == WIDEST


def test_who_waits_for_a_place_hears_of_a_stop() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    pace = Pace(1)
    pace.enter(stop)
    with pytest.raises(Stop):
        pace.enter(stop)


def test_a_deploy_waits_as_long_as_aws_asks(stage: Callable[[str], Stage]) -> None:
    it = stage("schedule")
    order = {"status": 429, "code": "TooManyRequestsException", "retry_after": 1.5}
    it.aws.order_faults([{"operation": "CreateFunction", **order}])
    it.deploy().check()
    calls = [call for call in it.aws.calls() if call["operation"] == "CreateFunction"]
    refused, accepted, *_ = (c for c in calls if c["resource"] == calls[0]["resource"])
    assert (refused["status"], accepted["status"]) == (429, 201)
    assert accepted["started"] - refused["started"] >= 1.5


def test_a_throttled_deploy_converges_without_an_error(tmp_path: Path) -> None:
    with stage_on(LocalMode(rate=3.0), "functions", tmp_path) as it:
        it.deploy().check()
        refused = [call for call in it.aws.calls() if call["status"] == 429]
        assert refused, "it was throttled"
        it.aws.forget_calls()
        apply_change(it.shape, it.project)
        it.deploy().check()
        it.deploy().check()
        assert it.recorder.reviewed == ()


# -- children -------------------------------------------------------------------------------------


def test_one_that_is_started_ahead_is_the_one_that_is_lent_and_has_no_credentials_before(
    server: EmbeddedAWS, tmp_path: Path
) -> None:
    secret = "canary-of-the-deployer"
    environ = {**server.environ, "AWS_SECRET_ACCESS_KEY": secret}
    with Deployers(environ, tmp_path) as lending:
        lending.expect(PYTHON, REGION)
        (started,) = (d for idle in lending._idle.values() for d in idle)
        seen, deadline = b"", time.monotonic() + 30
        while not seen and time.monotonic() < deadline:
            # It is empty until the program has begun.
            seen = Path(f"/proc/{started.pid}/environ").read_bytes()
        assert b"PYTHONIOENCODING" in seen
        assert b"AWS_" not in seen
        with lending.lent(PYTHON, REGION) as deployer:
            assert deployer is started
            assert deployer.identify().account == ACCOUNT
            if os.geteuid() == 0:
                # Not dumpable: the files of its process are root's, whoever runs it.
                assert Path(f"/proc/{started.pid}/mem").stat().st_uid == 0


def test_one_that_was_started_for_nothing_is_gone_at_the_end(
    server: EmbeddedAWS, tmp_path: Path
) -> None:
    with Deployers(server.environ, tmp_path) as lending:
        lending.expect(PYTHON, REGION)
        (started,) = (d for idle in lending._idle.values() for d in idle)
    assert started._process.returncode is not None


def test_a_plan_that_was_just_made_is_not_made_again(stage: Callable[[str], Stage]) -> None:
    it = stage("functions")
    it.deploy().check()
    it.aws.forget_calls()
    it.deploy().check()
    looks = [call["resource"] for call in it.aws.calls() if call["operation"] == "GetFunction"]
    assert sorted(looks) == sorted(set(looks)), "each function is looked at once"


def test_another_target_than_the_planned_one_is_planned_anew(
    stage: Callable[[str], Stage],
) -> None:
    it = stage("schedule")
    what = it.target()
    with it.start() as deployer:
        expected = deployer.plan(what)
        other = replace(
            what,
            resources=(
                {
                    "name": "gone",
                    "resource_type": "log_group",
                    "log_group_name": "/aws/lambda/gone",
                },
            ),
        )
        outcome = deployer.apply(other, expected, gate=Recorder())
    assert "delete_retention_policy gone" in str(outcome.error)
    with pytest.raises(ClientError):
        clients_of(it.aws)("iam").get_role(RoleName=f"{it.app_name}-dev")
