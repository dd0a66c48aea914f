"""The AWS-like mode, the journal of calls, faults on order, and who lives how long."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from chalice_ci.errors import UsageError
from chalice_ci.local import EmbeddedAWS, Endpoint, LocalCloud, LocalMode
from chalice_ci.local.aws import client_environ
from chalice_ci.local.front import Throttle
from support.chalicecli import PlainChalice
from support.shapes import BY_NAME, copy_shape

REGION = "us-east-1"
ACCOUNT = "123456789012"
RUNTIME = "python{}.{}".format(*sys.version_info[:2])


@functools.cache
def make_client(endpoint_url: str, service: str, attempts: int) -> Any:
    # Exceptions are classes of the one client that raised them, so each client is made once.
    session = boto3.Session(
        aws_access_key_id="embedded", aws_secret_access_key="embedded", region_name=REGION
    )
    return session.client(
        service,
        endpoint_url=endpoint_url,
        config=Config(retries={"total_max_attempts": attempts}, read_timeout=20),
    )


def clients(aws: Endpoint, attempts: int = 1) -> Callable[[str], Any]:
    return lambda service: make_client(aws.endpoint_url, service, attempts)


def package(code: str = "def handler(event, context):\n    return event\n") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("main.py", code)
    return content.getvalue()


def make_role(aws: Endpoint, name: str = "role") -> str:
    role = clients(aws)("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    return str(role["Role"]["Arn"])


def make_function(aws: Endpoint, name: str, role: str, **settings: Any) -> dict[str, Any]:
    made: dict[str, Any] = clients(aws)("lambda").create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Handler="main.handler",
        Role=role,
        **{"Code": {"ZipFile": package()}} | settings,
    )
    return made


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether it runs; a zombie that nobody waits for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(gateway=False) as aws:
        yield aws


@pytest.fixture
def plain(running: EmbeddedAWS) -> EmbeddedAWS:
    """An empty AWS without orders for faults."""
    running.order_faults([])
    running.reset()
    return running


@pytest.fixture(scope="module")
def strict() -> Iterator[EmbeddedAWS]:
    with EmbeddedAWS.start(LocalMode(strict=True), gateway=False) as aws:
        yield aws


class TestSlowAWS:
    def test_a_new_function_is_pending_and_an_updated_one_in_progress_for_a_while(self) -> None:
        with EmbeddedAWS.start(LocalMode(pend=3.0, upd=3.0), gateway=False) as aws:
            client = clients(aws)("lambda")
            assert make_function(aws, "slow", make_role(aws))["State"] == "Pending"
            with pytest.raises(client.exceptions.ResourceConflictException) as caught:
                client.update_function_code(FunctionName="slow", ZipFile=package())
            assert code_of(caught) == ("ResourceConflictException", 409)
            wait_until(
                lambda: client.get_function_configuration(FunctionName="slow")["State"] == "Active"
            )
            changed = client.update_function_code(FunctionName="slow", ZipFile=package())
            assert changed["LastUpdateStatus"] == "InProgress"
            with pytest.raises(client.exceptions.ResourceConflictException, match="update is in"):
                client.update_function_configuration(FunctionName="slow", Timeout=9)
            wait_until(
                lambda: (
                    client.get_function(FunctionName="slow")["Configuration"]["LastUpdateStatus"]
                    == "Successful"
                )
            )
            again = client.update_function_configuration(FunctionName="slow", Timeout=9)
            assert (again["Timeout"], again["LastUpdateStatus"]) == (9, "InProgress")

    def test_a_new_role_can_only_be_assumed_after_a_while(self) -> None:
        with EmbeddedAWS.start(LocalMode(role=3.0), gateway=False) as aws:
            client = clients(aws)("lambda")
            role = make_role(aws)
            for arn in (role, f"arn:aws:iam::{ACCOUNT}:role/missing"):
                with pytest.raises(
                    client.exceptions.InvalidParameterValueException,
                    match=r"The role defined for the function cannot be assumed by Lambda\.",
                ):
                    make_function(aws, "early", arn)
            time.sleep(3.0)
            make_function(aws, "early", role)
            other = make_role(aws, "other")
            with pytest.raises(client.exceptions.InvalidParameterValueException):
                client.update_function_configuration(FunctionName="early", Role=other)

    def test_every_call_takes_its_latency(self) -> None:
        with EmbeddedAWS.start(LocalMode(lat=0.3), gateway=False) as aws:
            client = clients(aws)("sts")
            client.get_caller_identity()
            assert aws.calls()[0]["seconds"] >= 0.3

    def test_plain_chalice_waits_and_retries_until_it_has_deployed(self, tmp_path: Path) -> None:
        mode = LocalMode(pend=0.3, upd=0.3, role=0.5, lat=0.01, strict=True)
        project = copy_shape(BY_NAME["rest"], tmp_path / "rest")
        with EmbeddedAWS.start(mode, gateway=False) as aws:
            environ = {"PATH": os.defpath, "HOME": str(tmp_path), **aws.environ}
            with PlainChalice(Path(sys.executable), environ=environ) as chalice:
                said = chalice.run(project, ["deploy", "--stage", "dev"])
            assert said.code == 0, said.text
            errors = {
                call["error"] for call in aws.calls() if call["operation"] == "CreateFunction"
            }
            assert "InvalidParameterValueException" in errors
            assert any(call["operation"] == "GetFunctionConfiguration" for call in aws.calls())


class TestStrictAWS:
    def test_a_second_mapping_of_the_same_source_to_the_same_function_is_refused(
        self, strict: EmbeddedAWS
    ) -> None:
        client = clients(strict)("lambda")
        arn = make_function(strict, "queued", make_role(strict, "a"))["FunctionArn"]
        clients(strict)("sqs").create_queue(QueueName="orders")
        source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
        client.create_event_source_mapping(EventSourceArn=source, FunctionName="queued")
        for name in ("queued", arn):
            with pytest.raises(ClientError) as caught:
                client.create_event_source_mapping(EventSourceArn=source, FunctionName=name)
            assert code_of(caught) == ("ResourceConflictException", 409)

    def test_a_package_above_the_request_limit_is_refused(self, strict: EmbeddedAWS) -> None:
        role = make_role(strict, "b")
        too_large = random.Random(0).randbytes(53 * 1024 * 1024)
        with pytest.raises(ClientError) as caught:
            make_function(strict, "large", role, Code={"ZipFile": too_large})
        assert code_of(caught) == ("RequestEntityTooLargeException", 413)

    def test_a_package_that_is_too_large_when_unzipped_is_refused(
        self, strict: EmbeddedAWS
    ) -> None:
        role = make_role(strict, "c")
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("zeros", bytes(263 * 1024 * 1024))
        with pytest.raises(ClientError, match="Unzipped size must be smaller"):
            make_function(strict, "zeros", role, Code={"ZipFile": content.getvalue()})
        make_function(strict, "zeros", role)
        with pytest.raises(ClientError, match="Unzipped size must be smaller"):
            clients(strict)("lambda").update_function_code(
                FunctionName="zeros", ZipFile=content.getvalue()
            )


class TestThrottling:
    def test_a_share_of_calls_is_refused_and_a_client_that_retries_gets_through(self) -> None:
        with EmbeddedAWS.start(LocalMode(throttle=0.4), gateway=False) as aws:
            client = clients(aws, attempts=12)("lambda")
            for _ in range(6):
                client.list_functions()
            refused = [call for call in aws.calls() if call["status"] == 429]
            assert refused
            assert {call["error"] for call in refused} == {"TooManyRequestsException"}

    def test_each_service_says_it_in_its_own_way(self) -> None:
        with EmbeddedAWS.start(LocalMode(throttle=0.999), gateway=False) as aws:
            said = {}
            for service, call in (
                ("lambda", "list_functions"),
                ("apigateway", "get_rest_apis"),
                ("apigatewayv2", "get_apis"),
                ("iam", "list_roles"),
                ("logs", "describe_log_groups"),
                ("s3", "list_buckets"),
            ):
                with pytest.raises(ClientError) as caught:
                    getattr(clients(aws)(service), call)()
                said[service] = code_of(caught)
            assert said == {
                "lambda": ("TooManyRequestsException", 429),
                "apigateway": ("TooManyRequestsException", 429),
                "apigatewayv2": ("TooManyRequestsException", 429),
                "iam": ("ThrottlingException", 400),
                "logs": ("ThrottlingException", 400),
                "s3": ("SlowDown", 503),
            }

    def test_a_rate_bounds_each_service_by_itself(self) -> None:
        now = [0.0]
        throttle = Throttle(LocalMode(rate=2.0), clock=lambda: now[0])
        assert [throttle.refuses("lambda") for _ in range(3)] == [False, False, True]
        assert throttle.refuses("iam") is False
        now[0] = 0.5
        assert [throttle.refuses("lambda") for _ in range(2)] == [False, True]


class TestJournal:
    def test_calls_are_named_across_all_protocols(self, plain: EmbeddedAWS) -> None:
        make = clients(plain)
        role = make_role(plain)
        make_function(plain, "shop-dev", role)
        make("s3").create_bucket(Bucket="uploads")
        make("s3").put_object(Bucket="uploads", Key="a/b", Body=b"12345")
        make("sns").create_topic(Name="news")
        make("sqs").create_queue(QueueName="orders")
        make("events").put_rule(Name="tick", ScheduleExpression="rate(1 hour)")
        make("logs").create_log_group(logGroupName="/aws/lambda/shop-dev")
        api = make("apigatewayv2").create_api(
            Name="live", ProtocolType="WEBSOCKET", RouteSelectionExpression="$x"
        )
        with pytest.raises(ClientError):
            make("lambda").get_function(FunctionName="gone")
        seen = [
            (call["service"], call["operation"], call["resource"], call["mutating"])
            for call in plain.calls()
        ]
        assert seen == [
            ("iam", "CreateRole", "role", True),
            ("lambda", "CreateFunction", "shop-dev", True),
            ("s3", "CreateBucket", "uploads", True),
            ("s3", "PutObject", "uploads", True),
            ("sns", "CreateTopic", "news", True),
            ("sqs", "CreateQueue", "orders", True),
            ("events", "PutRule", "tick", True),
            ("logs", "CreateLogGroup", "/aws/lambda/shop-dev", True),
            ("apigatewayv2", "CreateApi", "live", True),
            ("lambda", "GetFunction", "gone", False),
        ]
        calls = plain.calls()
        assert calls[-2]["given"] == api["ApiId"]
        assert (calls[-1]["status"], calls[-1]["error"]) == (404, "ResourceNotFoundException")
        assert calls[1]["bytes"] > len(package())
        assert [call["number"] for call in calls] == list(range(1, 11))
        plain.forget_calls()
        assert plain.calls() == []

    def test_a_reset_empties_the_account_and_the_journal(self, plain: EmbeddedAWS) -> None:
        make_role(plain)
        plain.reset()
        assert plain.calls() == []
        assert clients(plain)("iam").list_roles()["Roles"] == []


class TestFaults:
    def test_the_nth_matching_call_fails_before_it_is_executed(self, plain: EmbeddedAWS) -> None:
        plain.order_faults(
            [
                {
                    "operation": "CreateRole",
                    "nth": 2,
                    "status": 503,
                    "code": "ServiceUnavailable",
                    "message": "as ordered",
                }
            ]
        )
        make_role(plain, "one")
        with pytest.raises(ClientError, match="as ordered") as caught:
            make_role(plain, "two")
        assert code_of(caught) == ("ServiceUnavailable", 503)
        make_role(plain, "three")
        roles = clients(plain)("iam").list_roles()["Roles"]
        names = sorted(role["RoleName"] for role in roles)
        assert names == ["one", "three"]
        (order,) = plain.faults()
        assert (order["seen"], order["fired"]) == (3, 1)

    def test_a_call_can_be_executed_and_its_answer_lost(self, plain: EmbeddedAWS) -> None:
        plain.order_faults([{"service": "iam", "when": "after", "action": "drop"}])
        with pytest.raises(ConnectionClosedError):
            make_role(plain, "made")
        assert [r["RoleName"] for r in clients(plain)("iam").list_roles()["Roles"]] == ["made"]
        assert plain.calls()[0]["status"] == 0

    def test_reads_are_not_counted_unless_asked_for(self, plain: EmbeddedAWS) -> None:
        plain.order_faults([{"resource": "shop", "code": "Oops"}])
        with pytest.raises(clients(plain)("iam").exceptions.NoSuchEntityException):
            clients(plain)("iam").get_role(RoleName="shop")
        with pytest.raises(ClientError, match="Oops"):
            make_role(plain, "shop-dev")
        plain.order_faults([{"reads": True, "code": "Oops"}])
        with pytest.raises(ClientError, match="Oops"):
            clients(plain)("iam").get_role(RoleName="shop")

    def test_a_call_hangs_until_it_is_released(self, plain: EmbeddedAWS) -> None:
        plain.order_faults([{"action": "hang", "when": "after"}])
        caught: list[BaseException] = []

        def call() -> None:
            try:
                make_role(plain, "held")
            except ConnectionClosedError as error:
                caught.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: plain.faults()[0]["holding"])
        assert [r["RoleName"] for r in clients(plain)("iam").list_roles()["Roles"]] == ["held"]
        plain.release_faults()
        caller.join(timeout=60)
        assert len(caught) == 1

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_the_caller_is_killed_around_a_call(self, plain: EmbeddedAWS, when: str) -> None:
        code = (
            "import boto3, sys; iam = boto3.client('iam'); sys.stdin.readline()\n"
            "for name in ('one', 'two', 'three'):\n"
            "    iam.create_role(RoleName=name, AssumeRolePolicyDocument='{}')\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PATH": os.defpath, **plain.environ},
            stdin=subprocess.PIPE,
        ) as caller:
            plain.order_faults([{"nth": 2, "when": when, "action": "kill", "pid": caller.pid}])
            caller.communicate(b"go\n", timeout=120)
        assert caller.returncode == -signal.SIGKILL
        wait_until(lambda: len(plain.calls()) == 2)
        names = [role["RoleName"] for role in clients(plain)("iam").list_roles()["Roles"]]
        assert sorted(names) == (["one"] if when == "before" else ["one", "two"])

    @pytest.mark.parametrize(
        "order",
        [
            {"acton": "drop"},
            {"action": "explode"},
            {"nth": 0},
            {"nth": "1"},
            {"action": "kill"},
            {"status": True},
        ],
    )
    def test_an_order_that_is_wrong_is_refused(
        self, plain: EmbeddedAWS, order: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="message"):
            plain.order_faults([order])


class TestCopies:
    def test_a_copy_holds_what_was_there_and_each_goes_on_by_itself(
        self, plain: EmbeddedAWS
    ) -> None:
        make_role(plain, "before")
        with plain.copy() as copy, copy.copy() as second:
            for aws, name in ((plain, "original"), (copy, "copy"), (second, "second")):
                make_role(aws, name)
                roles = clients(aws)("iam").list_roles()["Roles"]
                assert sorted(role["RoleName"] for role in roles) == ["before", name]
        assert [call["operation"] for call in plain.calls()].count("CreateRole") == 2
        wait_until(lambda: not is_running(copy.pid) and not is_running(second.pid))

    def test_a_copy_refuses_the_share_of_calls_that_its_seed_chooses(
        self, plain: EmbeddedAWS
    ) -> None:
        def answers(seed: int) -> list[int]:
            with plain.copy(throttle=0.5, seed=seed) as copy:
                for _ in range(12):
                    with contextlib.suppress(ClientError):
                        clients(copy)("lambda").list_functions()
                return [int(call["status"]) for call in copy.calls()]

        assert answers(1) == answers(1) != answers(2)
        assert set(answers(1)) == {200, 429}

    def test_copies_end_with_their_original(self) -> None:
        with EmbeddedAWS.start(gateway=False) as aws:
            copies = [aws.copy(), aws.copy()]
            copies.append(copies[0].copy())
        wait_until(lambda: not any(is_running(copy.pid) for copy in copies))

    def test_a_share_above_one_is_refused(self, plain: EmbeddedAWS) -> None:
        with pytest.raises(ValueError, match="throttle"):
            plain.copy(throttle=1.5)


class TestMode:
    def test_settings_come_from_the_environment(self) -> None:
        mode = LocalMode.from_environ(
            {
                "CHALICE_CI_LOCAL_PEND": "1.5",
                "CHALICE_CI_LOCAL_UPD": "2",
                "CHALICE_CI_LOCAL_ROLE": "8",
                "CHALICE_CI_LOCAL_LAT": "",
                "CHALICE_CI_LOCAL_STRICT": "1",
                "PEND": "99",
            }
        )
        assert mode == LocalMode(pend=1.5, upd=2.0, role=8.0, strict=True)
        assert mode.arguments() == ["--pend=1.5", "--upd=2.0", "--role=8.0", "--strict"]

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("PEND", "soon", "'soon' is not a number"),
            ("LAT", "-1", "can't be negative"),
            ("THROTTLE", "1", "from 0 to below 1"),
        ],
    )
    def test_a_setting_that_is_wrong_is_a_usage_error(
        self, name: str, text: str, said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            LocalMode.from_environ({f"CHALICE_CI_LOCAL_{name}": text})

    def test_the_running_server_tells_its_mode(self) -> None:
        mode = LocalMode(lat=0.001)
        with EmbeddedAWS.start(mode, gateway=False) as aws:
            assert aws.health()["mode"] == vars(mode)


class TestLifetimes:
    def test_it_is_gone_after_the_block(self) -> None:
        with EmbeddedAWS.start() as aws:
            pid, log = aws.pid, aws.log
            assert aws.health()["pid"] == pid
        assert not is_running(pid)
        assert not log.exists()
        with pytest.raises(EndpointConnectionError):
            clients(aws)("iam").list_roles()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(aws.gateway_url, timeout=2)

    def test_a_log_that_was_asked_for_stays_and_is_quiet(self, tmp_path: Path) -> None:
        log = tmp_path / "aws.log"
        with EmbeddedAWS.start(log=log, gateway=False) as aws:
            make_role(aws)
        assert log.read_text(encoding="utf-8") == ""

    def test_it_ends_when_its_parent_is_killed(self) -> None:
        code = (
            "import sys, time\n"
            "from chalice_ci.local import EmbeddedAWS\n"
            "aws = EmbeddedAWS.start()\n"
            "print(aws.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            assert is_running(pid)
            parent.kill()
        wait_until(lambda: not is_running(pid))

    def test_on_the_command_line_it_says_when_it_is_ready_and_ends_on_sigterm(
        self, tmp_path: Path
    ) -> None:
        ready_file = tmp_path / "ready.json"
        with subprocess.Popen(
            [sys.executable, "-m", "chalice_ci.local", f"--ready-file={ready_file}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as server:
            assert server.stdout
            ready = json.loads(server.stdout.readline())
            assert json.loads(ready_file.read_text(encoding="utf-8")) == ready
            assert ready["pid"] == server.pid
            aws = Endpoint(
                endpoint_url=ready["endpoint_url"],
                gateway_url=ready["gateway_url"],
                region=REGION,
            )
            assert aws.health()["endpoint_url"] == ready["endpoint_url"]
            server.terminate()
            assert server.wait(timeout=60) == 0

    def test_a_wrong_option_ends_with_the_code_of_usage_errors(self) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "chalice_ci.local", "--throttle=2"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "THROTTLE" in ended.stderr

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        """Shown in a Python that has our sources and nothing else."""
        source = Path(sys.modules["chalice_ci"].__path__[0]).parent
        code = (
            f"import sys; sys.path.append({str(source)!r})\n"
            "from chalice_ci.local import EmbeddedAWS\n"
            "from chalice_ci.errors import UsageError\n"
            "try:\n"
            "    EmbeddedAWS.start()\n"
            "except UsageError as error:\n"
            "    print(error)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
        )
        assert "needs moto, which is not installed" in ended.stdout
        assert "pip install 'chalice-ci[local]'" in ended.stdout


class TestLocalCloud:
    def test_commands_one_after_another_share_the_aws_of_a_folder(self, tmp_path: Path) -> None:
        assert LocalCloud.attach(tmp_path) is None
        first = LocalCloud.attach_or_start(tmp_path / "cloud")
        try:
            make_role(first, "kept")
            second = LocalCloud.attach_or_start(tmp_path / "cloud")
            assert (first.started, second.started) == (True, False)
            assert second.pid == first.pid
            roles = clients(second)("iam").list_roles()["Roles"]
            assert [role["RoleName"] for role in roles] == ["kept"]
        finally:
            first.stop()
        wait_until(lambda: not is_running(first.pid))
        assert LocalCloud.attach(tmp_path / "cloud") is None
        first.stop()

    def test_one_that_does_not_answer_is_named_by_its_process(self, tmp_path: Path) -> None:
        cloud = LocalCloud.attach_or_start(tmp_path)
        os.kill(cloud.pid, signal.SIGSTOP)
        try:
            with pytest.raises(UsageError) as refused:
                LocalCloud.attach_or_start(tmp_path)
            assert f"process {cloud.pid}) is running but doesn't answer" in refused.value.what
            assert f"kill {cloud.pid}" in refused.value.fix
        finally:
            os.kill(cloud.pid, signal.SIGCONT)
            cloud.stop()

    def test_callers_at_the_same_time_get_the_same(self, tmp_path: Path) -> None:
        found: list[LocalCloud] = []
        callers = [
            threading.Thread(target=lambda: found.append(LocalCloud.attach_or_start(tmp_path)))
            for _ in range(3)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        try:
            assert len({cloud.pid for cloud in found}) == 1
            assert sorted(cloud.started for cloud in found) == [False, False, True]
        finally:
            found[0].stop()

    def test_it_outlives_the_command_that_started_it_and_ends_when_idle(
        self, tmp_path: Path
    ) -> None:
        code = (
            "import sys, pathlib\n"
            "from chalice_ci.local import LocalCloud\n"
            "cloud = LocalCloud.attach_or_start(pathlib.Path(sys.argv[1]), idle=3)\n"
            "print(cloud.pid)\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        pid = int(said.stdout)
        cloud = LocalCloud.attach(tmp_path)
        assert cloud is not None
        assert cloud.pid == pid
        wait_until(lambda: not is_running(pid))

    def test_it_ends_when_its_folder_is_deleted(self, tmp_path: Path) -> None:
        cloud = LocalCloud.attach_or_start(tmp_path / "cloud")
        shutil.rmtree(tmp_path / "cloud")
        wait_until(lambda: not is_running(cloud.pid))
        assert LocalCloud.attach(tmp_path / "cloud") is None
        cloud.stop()

    def test_another_mode_than_the_running_one_is_refused(self, tmp_path: Path) -> None:
        cloud = LocalCloud.attach_or_start(tmp_path)
        try:
            with pytest.raises(UsageError, match="other settings"):
                LocalCloud.attach_or_start(tmp_path, mode=LocalMode(lat=1.0))
            assert LocalCloud.attach_or_start(tmp_path, mode=LocalMode()).pid == cloud.pid
        finally:
            cloud.stop()

    def test_a_record_whose_port_belongs_to_somebody_else_is_not_believed(
        self, tmp_path: Path, plain: EmbeddedAWS
    ) -> None:
        record = {
            "endpoint_url": plain.endpoint_url,
            "gateway_url": "",
            "pid": os.getpid(),
            "instance": "another",
        }
        (tmp_path / "aws.json").write_text(json.dumps(record), encoding="utf-8")
        assert LocalCloud.attach(tmp_path) is None


def test_the_environment_leads_to_the_embedded_aws_only() -> None:
    environ = client_environ("http://127.0.0.1:1", "eu-west-1")
    assert environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert environ["AWS_REGION"] == environ["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert environ["AWS_CONFIG_FILE"] == environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
