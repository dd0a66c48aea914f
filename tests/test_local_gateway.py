"""The gateway: the route, the event, the answer, who may ask, and whose process runs the code."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.local import EmbeddedAWS, proxy_events
from chalice_ci.local.policies import Verdict, judge
from chalice_ci.local.proxy_events import Request, Stage
from chalice_ci.local.routes import Match, find_route
from support.chalicecli import PlainChalice

REGION = "us-east-1"
VERSION = "{}.{}".format(*sys.version_info[:2])


# -- the route -----------------------------------------------------------------------------------


def routes(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"method": method, "path": path} for method, path in pairs]


class TestRoutes:
    TABLE = routes(
        ("GET", "/"),
        ("GET", "/pets"),
        ("POST", "/pets"),
        ("GET", "/pets/{name}"),
        ("GET", "/pets/all"),
        ("GET", "/files/{path+}"),
        ("ANY", "/any"),
        ("GET", "/pets/{name}/toys/{toy}"),
    )

    @pytest.mark.parametrize(
        ("method", "path", "resource", "parameters"),
        [
            ("GET", "/", "/", {}),
            ("POST", "/pets", "/pets", {}),
            ("GET", "/pets/", "/pets", {}),
            ("GET", "/pets/rex", "/pets/{name}", {"name": "rex"}),
            ("GET", "/pets/all", "/pets/all", {}),
            ("GET", "/pets/r%20ex", "/pets/{name}", {"name": "r ex"}),
            ("GET", "/pets/a/toys/b%2Fc", "/pets/{name}/toys/{toy}", {"name": "a", "toy": "b/c"}),
            ("GET", "/files/a/b/c", "/files/{path+}", {"path": "a/b/c"}),
            ("PATCH", "/any", "/any", {}),
        ],
    )
    def test_the_most_specific_resource_serves(
        self, method: str, path: str, resource: str, parameters: Mapping[str, str]
    ) -> None:
        match = find_route(self.TABLE, method, path)
        assert match is not None
        assert (match.route["path"], match.parameters) == (resource, parameters)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/nope"),
            ("DELETE", "/pets"),
            ("POST", "/pets/all"),
            ("GET", "/pets//toys/x"),
            ("GET", "/files"),
            ("GET", "/pets/a/b/c/d"),
        ],
    )
    def test_nothing_serves_an_unknown_path_or_method(self, method: str, path: str) -> None:
        assert find_route(self.TABLE, method, path) is None

    @given(st.text(max_size=40))
    def test_no_path_breaks_it(self, path: str) -> None:
        find_route(self.TABLE, "GET", path)


# -- event and answer ----------------------------------------------------------------------------

STAGE = Stage(
    api_id="abc",
    name="api",
    region=REGION,
    account="123456789012",
    binary_types=("image/png",),
    minimum_compression=None,
    routes=(),
    api_keys=(),
)
MATCH = Match(
    route={"method": "GET", "path": "/pets/{name}", "resourceId": "r1"}, parameters={"name": "rex"}
)


def ask(**fields: Any) -> Request:
    known: dict[str, Any] = {
        "method": "GET",
        "path": "/pets/rex",
        "query": "",
        "headers": (),
        "body": b"",
        "source_ip": "127.0.0.1",
    }
    return Request(**known | fields)


class TestEvents:
    def test_repeated_parameters_and_headers_are_given_both_ways(self) -> None:
        event = proxy_events.event(
            STAGE,
            ask(query="a=1&a=2&empty=", headers=(("X-A", "1"), ("X-A", "2"))),
            MATCH,
            None,
        )
        assert event["queryStringParameters"] == {"a": "2", "empty": ""}
        assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "empty": [""]}
        assert event["headers"] == {"X-A": "2"}
        assert event["multiValueHeaders"] == {"X-A": ["1", "2"]}
        assert event["pathParameters"] == {"name": "rex"}
        context = event["requestContext"]
        assert (context["resourcePath"], context["path"]) == ("/pets/{name}", "/api/pets/rex")
        assert (context["stage"], context["apiId"]) == ("api", "abc")
        assert "authorizer" not in context

    def test_a_binary_body_is_encoded_and_a_text_is_not(self) -> None:
        png = ask(headers=(("Content-Type", "image/png; q=1"),), body=b"\x89PNG")
        event = proxy_events.event(STAGE, png, MATCH, {"principalId": "me"})
        assert event["isBase64Encoded"] is True
        assert base64.b64decode(event["body"]) == b"\x89PNG"
        assert event["requestContext"]["authorizer"] == {"principalId": "me"}
        text = proxy_events.event(STAGE, ask(body="é".encode()), MATCH, None)
        assert (text["isBase64Encoded"], text["body"]) == (False, "é")


class TestAnswers:
    def test_headers_of_both_kinds_are_merged(self) -> None:
        answer = proxy_events.answer(
            {
                "statusCode": "201",
                "headers": {"X-One": "1", "x-two": "lost"},
                "multiValueHeaders": {"X-Two": ["a", "b"]},
                "body": "done",
            },
            STAGE,
            ask(),
        )
        assert answer is not None
        assert (answer.status, answer.body) == (201, b"done")
        assert list(answer.headers) == [
            ("X-Two", "a"),
            ("X-Two", "b"),
            ("X-One", "1"),
            ("Content-Type", "application/json"),
        ]

    def test_a_binary_body_is_decoded_for_a_caller_that_accepts_it(self) -> None:
        result = {"statusCode": 200, "body": base64.b64encode(b"\0").decode()}
        result |= {"isBase64Encoded": True}
        accepting = ask(headers=(("Accept", "image/png, */*"),))
        first = proxy_events.answer(result, STAGE, accepting)
        other = proxy_events.answer(result, STAGE, ask())
        assert first is not None
        assert other is not None
        assert (first.body, other.body) == (b"\0", b"AA==")

    def test_long_answers_are_compressed_when_the_api_says_so(self) -> None:
        stage = replace(STAGE, minimum_compression=10)
        caller = ask(headers=(("Accept-Encoding", "br, gzip"),))
        long = proxy_events.answer({"body": "x" * 100}, stage, caller)
        short = proxy_events.answer({"body": "x"}, stage, caller)
        assert long is not None
        assert short is not None
        assert gzip.decompress(long.body) == b"x" * 100
        assert ("Content-Encoding", "gzip") in long.headers
        assert short.body == b"x"

    @pytest.mark.parametrize(
        "result",
        [
            None,
            "text",
            [1],
            {"statusCode": "fine"},
            {"body": {"not": "text"}},
            {"headers": ["x"]},
            {"body": "%", "isBase64Encoded": True},
        ],
    )
    def test_a_malformed_result_is_no_answer(self, result: object) -> None:
        accepting = ask(headers=(("Accept", "image/png"),))
        assert proxy_events.answer(result, STAGE, accepting) is None

    def test_a_header_can_not_smuggle_another_one(self) -> None:
        answer = proxy_events.answer({"headers": {"X-A": "1\r\nX-B: 2"}}, STAGE, ask())
        assert answer is not None
        assert [name for name, _ in answer.headers] == ["Content-Type"]


class TestPolicies:
    ARN = f"arn:aws:execute-api:{REGION}:123456789012:abc/api/GET/pets/rex"

    def policy(self, effect: str, resource: Any, action: Any = "execute-api:Invoke") -> Any:
        return {"Effect": effect, "Action": action, "Resource": resource}

    @pytest.mark.parametrize(
        ("resource", "verdict"),
        [
            ("*", Verdict.ALLOWED),
            ([f"arn:aws:execute-api:{REGION}:123456789012:abc/api/*/pets/*"], Verdict.ALLOWED),
            (["arn:aws:execute-api:*:*:abc/api/GET/pets/re?"], Verdict.ALLOWED),
            (["arn:aws:execute-api:*:*:abc/api/POST/pets/rex"], Verdict.NOT_ALLOWED),
            ([], Verdict.NOT_ALLOWED),
        ],
    )
    def test_resources_match_with_wildcards(self, resource: Any, verdict: Verdict) -> None:
        assert judge({"Statement": [self.policy("Allow", resource)]}, self.ARN) is verdict

    def test_a_denial_wins(self) -> None:
        statements = [self.policy("Allow", "*"), self.policy("Deny", "*/rex", ["execute-api:*"])]
        assert judge({"Statement": statements}, self.ARN) is Verdict.DENIED

    def test_an_expression_in_a_resource_is_only_text(self) -> None:
        assert judge({"Statement": self.policy("Allow", ".+")}, self.ARN) is Verdict.NOT_ALLOWED

    @pytest.mark.parametrize("policy", [None, [], {"Statement": ["x"]}])
    def test_a_malformed_policy_is_an_error(self, policy: object) -> None:
        with pytest.raises(ValueError, match="is not an object"):
            judge(policy, self.ARN)


# -- a deployed app ------------------------------------------------------------------------------

APP = """
import os, sys, time
from chalice import (
    AuthResponse, AuthRoute, Chalice, CognitoUserPoolAuthorizer, CORSConfig, IAMAuthorizer, Response
)

app = Chalice(app_name="served")
app.api.binary_types.append("image/x-test")

pool = CognitoUserPoolAuthorizer("pool", provider_arns=["arn:aws:cognito-idp:::userpool/x"])

@app.authorizer(ttl_seconds=60)
def gate(request):
    print("asked with", request.token)
    if request.token == "broken":
        raise ValueError("no")
    routes = ["/gated"] if request.token.startswith("yes") else []
    return AuthResponse(routes=routes, principal_id="me", context={"n": "1"})

@app.route("/")
def index():
    return {"hello": os.environ["GREETING"]}

@app.route("/echo", methods=["GET", "POST"], cors=CORSConfig(allow_origin="https://x.example"))
def echo():
    request = app.current_request.to_dict()
    request["body"] = app.current_request.raw_body.decode()
    return request

@app.route("/pets/{name}")
def pet(name):
    return {"name": name}

@app.route("/gated", authorizer=gate)
def gated():
    return app.current_request.context["authorizer"]

@app.route("/other", authorizer=gate)
def other():
    return {}

@app.route("/pool", authorizer=pool)
def in_pool():
    return {}

@app.route("/iam", authorizer=IAMAuthorizer())
def iam():
    return {}

@app.route("/key", api_key_required=True)
def key():
    return {"key": app.current_request.context["identity"]["apiKey"]}

@app.route("/reverse", methods=["POST"], content_types=["image/x-test"])
def reverse():
    body = app.current_request.raw_body[::-1]
    return Response(body, headers={"Content-Type": "image/x-test"})

@app.route("/leave")
def leave():
    os._exit(3)

@app.route("/fail")
def fail():
    raise ValueError("oh")

@app.route("/sleep")
def sleep():
    time.sleep(60)

@app.route("/slow")
def slow():
    time.sleep(2)
    return {"pid": os.getpid()}

@app.route("/inside")
def inside():
    import boto3
    from importlib.util import find_spec
    return {
        "environ": dict(os.environ),
        "path": sys.path,
        "modules": [name for name in ("pytest", "moto", "click") if find_spec(name)],
        "boto3": boto3.__version__,
        "roles": [r["RoleName"] for r in boto3.client("iam").list_roles()["Roles"]],
        "pid": os.getpid(),
        "version": "%d.%d" % sys.version_info[:2],
    }
"""

CONFIG = {
    "version": "2.0",
    "app_name": "served",
    "environment_variables": {"GREETING": "world"},
    "minimum_compression_size": 2000,
    # Of a slow machine too: only what sleeps may take too long.
    "lambda_timeout": 30,
    "stages": {"dev": {"api_gateway_stage": "api"}},
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    aws: EmbeddedAWS
    url: str
    project: Path
    chalice: PlainChalice

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        try:
            connection.request(method, parts.path + path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def client(self, service: str) -> Any:
        session = boto3.Session(
            aws_access_key_id="embedded", aws_secret_access_key="embedded", region_name=REGION
        )
        return session.client(service, endpoint_url=self.aws.endpoint_url)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    project = tmp_path_factory.mktemp("served")
    (project / ".chalice").mkdir()
    (project / "app.py").write_text(APP, encoding="utf-8")
    (project / "requirements.txt").touch()
    (project / ".chalice" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with EmbeddedAWS.start() as aws:
        environ = {"PATH": os.defpath, "HOME": str(project), **aws.environ}
        with PlainChalice(Path(sys.executable), environ=environ) as chalice:
            said = chalice.run(project, ["deploy", "--stage", "dev"])
            assert said.code == 0, said.text
            state = json.loads((project / ".chalice/deployed/dev.json").read_text("utf-8"))
            (api,) = (r for r in state["resources"] if r["resource_type"] == "rest_api")
            url = aws.local_url_of(api["rest_api_url"])
            assert url == aws.local_url(api["rest_api_id"], "api")
            yield Served(aws, url, project, chalice)


class TestServing:
    def test_a_route_answers_with_the_functions_environment(self, served: Served) -> None:
        reply = served.ask("")
        assert (reply.status, reply.document) == (200, {"hello": "world"})
        assert reply.headers["Content-Type"] == "application/json"

    def test_parameters_bodies_and_methods_reach_the_app(self, served: Served) -> None:
        assert served.ask("pets/r%20ex").document == {"name": "r ex"}
        reply = served.ask(
            "echo?a=1&a=2", "POST", b'{"x": 1}', {"Content-Type": "application/json"}
        )
        assert reply.document["method"] == "POST"
        assert reply.document["query_params"] == {"a": "2"}
        assert reply.document["body"] == '{"x": 1}'

    def test_binary_goes_both_ways(self, served: Served) -> None:
        kind = {"Content-Type": "image/x-test", "Accept": "image/x-test"}
        reply = served.ask("reverse", "POST", bytes(range(256)), kind)
        assert reply.body == bytes(reversed(range(256)))

    def test_a_preflight_is_answered_without_the_function(self, served: Served) -> None:
        reply = served.ask("echo", "OPTIONS", headers={"Origin": "https://x.example"})
        assert reply.status == 200
        assert reply.headers["Access-Control-Allow-Origin"] == "https://x.example"
        assert set(reply.headers["Access-Control-Allow-Methods"].split(",")) == {
            "GET",
            "POST",
            "OPTIONS",
        }
        assert served.ask("", "OPTIONS").status == 403

    @pytest.mark.parametrize("path", ["nope", "pets/a/b", "pets"])
    def test_an_unknown_route_misses_its_token_as_on_aws(self, served: Served, path: str) -> None:
        reply = served.ask(path)
        assert (reply.status, reply.document) == (
            403,
            {"message": "Missing Authentication Token"},
        )

    def test_an_unknown_api_or_stage_is_forbidden(self, served: Served) -> None:
        for path in ("../nope/", "../../other/api/"):
            parts = urlsplit(served.url)
            connection = http.client.HTTPConnection(parts.netloc, timeout=20)
            connection.request("GET", os.path.normpath(parts.path + path) + "/")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())) == (403, {"message": "Forbidden"})
            connection.close()

    def test_an_exception_of_the_app_is_chalices_500(self, served: Served) -> None:
        assert served.ask("fail").status == 500

    def test_a_function_that_ends_is_a_502_and_the_next_request_works(self, served: Served) -> None:
        reply = served.ask("leave")
        assert (reply.status, reply.document) == (502, {"message": "Internal server error"})
        assert served.ask("").status == 200

    def test_a_function_that_takes_too_long_is_ended(self, served: Served) -> None:
        functions = served.client("lambda")
        functions.update_function_configuration(FunctionName="served-dev", Timeout=2)
        try:
            assert served.ask("sleep").status == 502
        finally:
            functions.update_function_configuration(FunctionName="served-dev", Timeout=30)
        assert "Task timed out after 2.00 seconds" in served.aws.log.read_text("utf-8")

    def test_requests_at_the_same_time_get_processes_of_their_own(self, served: Served) -> None:
        pids: list[int] = []
        callers = [
            threading.Thread(target=lambda: pids.append(served.ask("slow").document["pid"]))
            for _ in range(2)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(set(pids)) == 2

    def test_long_answers_are_compressed_for_who_accepts_it(self, served: Served) -> None:
        body = json.dumps({"x": "y" * 3000}).encode()
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        reply = served.ask("echo", "POST", body, headers)
        assert reply.headers["Content-Encoding"] == "gzip"
        assert b"yyyy" in gzip.decompress(reply.body)

    def test_websockets_are_refused_in_plain_words(self, served: Served) -> None:
        reply = served.ask("", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        assert reply.status == 501
        assert "WebSocket APIs are deployed but not served locally" in reply.document["message"]

    def test_a_request_that_can_not_be_framed_is_refused(self, served: Served) -> None:
        reply = served.ask("", "POST", None, {"Transfer-Encoding": "chunked"})
        assert reply.status == 400
        reply = served.ask("", "POST", None, {"Content-Length": "99999999"})
        assert reply.status == 413


class TestAuthorizers:
    def test_without_a_token_nobody_is_asked(self, served: Served) -> None:
        reply = served.ask("gated")
        assert (reply.status, reply.document) == (401, {"message": "Unauthorized"})

    def test_what_the_authorizer_says_reaches_the_app(self, served: Served) -> None:
        reply = served.ask("gated", headers={"Authorization": "yes"})
        assert reply.status == 200
        assert (reply.document["principalId"], reply.document["n"]) == ("me", "1")

    def test_a_route_that_the_policy_leaves_out_is_denied(self, served: Served) -> None:
        reply = served.ask("other", headers={"Authorization": "yes"})
        assert (reply.status, reply.document) == (
            403,
            {"Message": "User is not authorized to access this resource"},
        )
        assert served.ask("gated", headers={"Authorization": "no"}).status == 403

    def test_a_decision_is_kept_for_its_time(self, served: Served) -> None:
        for _ in range(3):
            assert served.ask("gated", headers={"Authorization": "yes-once"}).status == 200
        assert served.aws.log.read_text("utf-8").count("asked with yes-once") == 1

    def test_an_authorizer_that_fails_is_a_500(self, served: Served) -> None:
        assert served.ask("gated", headers={"Authorization": "broken"}).status == 500

    def test_iam_and_cognito_are_not_open_and_what_can_not_be_verified_is_refused(
        self, served: Served
    ) -> None:
        assert served.ask("iam").document == {"message": "Missing Authentication Token"}
        assert served.ask("pool").status == 401
        for path in ("iam", "pool"):
            reply = served.ask(path, headers={"Authorization": "something"})
            assert reply.status == 403
            assert "can't verify" in reply.document["Message"]

    def test_an_api_key_is_asked_for(self, served: Served) -> None:
        assert served.ask("key").status == 403
        assert served.ask("key", headers={"x-api-key": "wrong"}).status == 403
        value = "a-key-of-enough-letters"
        served.client("apigateway").create_api_key(name="k", value=value, enabled=True)
        assert served.ask("key", headers={"x-api-key": value}).document == {"key": value}


class TestIsolation:
    def test_a_function_sees_lambdas_variables_and_none_of_ours(self, served: Served) -> None:
        inside = served.ask("inside").document
        environ = inside["environ"]
        assert environ["AWS_ENDPOINT_URL"] == served.aws.endpoint_url
        assert environ["AWS_LAMBDA_FUNCTION_NAME"] == "served-dev"
        assert environ["_HANDLER"] == "app.app"
        assert environ["AWS_ACCESS_KEY_ID"] == "embedded"
        ours = set(os.environ) - {"PATH", "LANG", "TZ", "LC_CTYPE"}
        assert not ours & {name for name in environ if not name.startswith("AWS_")}

    def test_it_has_boto3_as_in_lambda_and_nothing_else_of_site_packages(
        self, served: Served
    ) -> None:
        inside = served.ask("inside").document
        assert inside["boto3"] == boto3.__version__
        assert inside["modules"] == []
        assert not [path for path in inside["path"] if "site-packages" in path]
        assert "served-dev" in inside["roles"]
        assert inside["version"] == VERSION

    def test_no_credential_of_the_caller_reaches_any_process(self, tmp_path: Path) -> None:
        """A caller with a secret in its environment starts it all; the function looks for it."""
        code = textwrap.dedent(
            """
            import io, json, sys, zipfile, boto3
            from chalice_ci.local import EmbeddedAWS
            look = '''
            import os, glob
            def handler(event, context):
                found = dict(os.environ), []
                pid, seen = os.getpid(), []
                while pid > 1 and len(seen) < 3:
                    seen.append(open(f"/proc/{pid}/environ", "rb").read().decode("latin-1"))
                    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
                return [str(found), *seen]
            '''
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                archive.writestr("main.py", look)
            with EmbeddedAWS.start() as aws:
                session = boto3.Session("embedded", "embedded", region_name="us-east-1")
                make = lambda name: session.client(name, endpoint_url=aws.endpoint_url)
                role = make("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
                make("lambda").create_function(
                    FunctionName="look", Runtime=sys.argv[1], Handler="main.handler",
                    Role=role["Role"]["Arn"], Code={"ZipFile": content.getvalue()},
                )
                answer = make("lambda").invoke(FunctionName="look", Payload=b"{}")
                print(answer["Payload"].read().decode())
            """
        )
        environ = {
            **os.environ,
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_SESSION_TOKEN": "canary-token",
            "GITHUB_TOKEN": "canary-forge",
        }
        said = subprocess.run(
            [sys.executable, "-c", code, f"python{VERSION}"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        # The function, the gateway and the server: three environments were read.
        assert len(json.loads(said.stdout)) >= 2, said.stdout
        assert "AWS_LAMBDA_FUNCTION_NAME" in said.stdout
        assert "canary" not in said.stdout + said.stderr


def package(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".py", text)
    return content.getvalue()


class TestFunctions:
    def create(self, served: Served, name: str, code: str, **settings: Any) -> Any:
        iam = served.client("iam")
        if not any(role["RoleName"] == "own" for role in iam.list_roles()["Roles"]):
            iam.create_role(RoleName="own", AssumeRolePolicyDocument="{}")
        role = iam.get_role(RoleName="own")["Role"]["Arn"]
        client = served.client("lambda")
        known = {"Runtime": f"python{VERSION}", "Handler": "main.handler", "Role": role}
        client.create_function(
            FunctionName=name, Code={"ZipFile": package(main=code)}, **known | settings
        )
        return client

    def invoke(self, client: Any, name: str, payload: object = None) -> tuple[Any, str | None]:
        answer = client.invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def test_invoke_runs_the_function_and_an_update_is_live_at_once(self, served: Served) -> None:
        client = self.create(served, "answer", "def handler(e, c): return [e, c.function_name]\n")
        assert self.invoke(client, "answer", 1) == ([1, "answer"], None)
        client.update_function_code(
            FunctionName="answer", ZipFile=package(main="def handler(e, c): return 'new'\n")
        )
        assert self.invoke(client, "answer") == ("new", None)

    def test_an_exception_is_described_as_lambda_does(self, served: Served) -> None:
        client = self.create(served, "raises", "def handler(e, c): raise KeyError('x')\n")
        said, failed = self.invoke(client, "raises")
        assert failed == "Unhandled"
        assert (said["errorType"], said["errorMessage"]) == ("KeyError", "'x'")
        assert "main.py" in said["stackTrace"][-1]

    def test_a_module_that_can_not_be_imported_says_why(self, served: Served) -> None:
        client = self.create(served, "broken", "import nothing_like_it\n")
        said, failed = self.invoke(client, "broken")
        assert failed == "Unhandled"
        assert "No module named 'nothing_like_it'" in said["errorMessage"]

    def test_its_own_settings_can_not_lead_it_to_another_aws(self, served: Served) -> None:
        client = self.create(
            served,
            "led",
            "from os import environ\n"
            "def handler(e, c): return [environ['AWS_ENDPOINT_URL'], environ['A']]\n",
            Environment={"Variables": {"AWS_ENDPOINT_URL": "http://elsewhere.invalid", "A": "1"}},
        )
        assert self.invoke(client, "led") == ([served.aws.endpoint_url, "1"], None)

    def test_prints_don_t_disturb_the_answer(self, served: Served) -> None:
        code = "import os\ndef handler(e, c):\n    print('{}'); os.write(1, b'raw\\n'); return 1\n"
        client = self.create(served, "prints", code)
        assert self.invoke(client, "prints") == (1, None)

    def test_layers_come_after_the_package(self, served: Served) -> None:
        layer = served.client("lambda").publish_layer_version(
            LayerName="deps",
            Content={
                "ZipFile": package(python__dep="NAME = 'layer'\n", python__both="NAME = 'layer'\n")
            },
        )["LayerVersionArn"]
        code = "import dep, both\ndef handler(e, c): return [dep.NAME, both.NAME]\n"
        client = self.create(served, "layered", code, Layers=[layer])
        client.update_function_code(
            FunctionName="layered", ZipFile=package(main=code, both="NAME = 'own'\n")
        )
        assert self.invoke(client, "layered") == (["layer", "own"], None)

    def test_a_runtime_without_an_interpreter_says_how_to_give_one(self, served: Served) -> None:
        client = self.create(served, "older", "def handler(e, c): return 1\n", Runtime="python3.9")
        said, failed = self.invoke(client, "older")
        assert failed == "Unhandled"
        assert "--python 3.9=PATH" in said["errorMessage"]

    def test_a_message_in_a_queue_reaches_its_function(self, served: Served) -> None:
        code = (
            "import boto3\n"
            "def handler(event, context):\n"
            "    for record in event['Records']:\n"
            "        boto3.client('sns').create_topic(Name=record['body'])\n"
        )
        client = self.create(served, "consumer", code)
        queue = served.client("sqs").create_queue(QueueName="work")["QueueUrl"]
        client.create_event_source_mapping(
            EventSourceArn=f"arn:aws:sqs:{REGION}:123456789012:work", FunctionName="consumer"
        )
        served.client("sqs").send_message(QueueUrl=queue, MessageBody="arrived")
        topics = served.client("sns").list_topics()["Topics"]
        assert [topic["TopicArn"].rpartition(":")[2] for topic in topics] == ["arrived"]

    def test_a_topic_and_an_upload_reach_their_function(self, served: Served) -> None:
        code = (
            "import boto3\n"
            "def handler(event, context):\n"
            "    (record,) = event['Records']\n"
            "    kind = 'sns' if 'Sns' in record else record['s3']['object']['key']\n"
            "    boto3.client('sqs').create_queue(QueueName='seen-' + kind)\n"
        )
        client = self.create(served, "notified", code)
        arn = client.get_function(FunctionName="notified")["Configuration"]["FunctionArn"]
        topic = served.client("sns").create_topic(Name="news")["TopicArn"]
        served.client("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
        served.client("sns").publish(TopicArn=topic, Message="hello")
        store = served.client("s3")
        store.create_bucket(Bucket="uploads")
        store.put_bucket_notification_configuration(
            Bucket="uploads",
            NotificationConfiguration={
                "LambdaFunctionConfigurations": [
                    {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}
                ]
            },
        )
        store.put_object(Bucket="uploads", Key="csv", Body=b"1")
        queues = served.client("sqs").list_queues(QueueNamePrefix="seen-")["QueueUrls"]
        assert sorted(url.rpartition("/")[2] for url in queues) == ["seen-csv", "seen-sns"]


def test_another_python_serves_its_own_runtime(tmp_path: Path) -> None:
    """The mapping is what decides: this interpreter stands in for another version's."""
    other = "3.12" if VERSION != "3.12" else "3.13"
    with EmbeddedAWS.start(pythons={other: Path(sys.executable)}) as aws:
        session = boto3.Session("embedded", "embedded", region_name=REGION)
        role = session.client("iam", endpoint_url=aws.endpoint_url).create_role(
            RoleName="r", AssumeRolePolicyDocument="{}"
        )
        client = session.client("lambda", endpoint_url=aws.endpoint_url)
        client.create_function(
            FunctionName="f",
            Runtime=f"python{other}",
            Handler="main.handler",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": package(main="import sys\ndef handler(e, c): return sys.prefix\n")},
        )
        answer = client.invoke(FunctionName="f", Payload=b"{}")
        assert "FunctionError" not in answer
        assert json.loads(answer["Payload"].read())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a function a uid of its own")
def test_as_root_a_function_runs_under_a_uid_of_its_own(tmp_path_factory: Any) -> None:
    cache = Path("/var/tmp") / f"chalice-ci-gateway-test-{os.getpid()}"
    cache.mkdir(mode=0o755)
    code = "import boto3, os\ndef handler(e, c): return [os.getuid(), os.getgroups()]\n"
    try:
        with EmbeddedAWS.start(cache_dir=cache) as aws:
            session = boto3.Session("embedded", "embedded", region_name=REGION)
            role = session.client("iam", endpoint_url=aws.endpoint_url).create_role(
                RoleName="r", AssumeRolePolicyDocument="{}"
            )
            client = session.client("lambda", endpoint_url=aws.endpoint_url)
            client.create_function(
                FunctionName="f",
                Runtime=f"python{VERSION}",
                Handler="main.handler",
                Role=role["Role"]["Arn"],
                Code={"ZipFile": package(main=code)},
            )
            answer = client.invoke(FunctionName="f", Payload=b"{}")
            said = json.loads(answer["Payload"].read())
            assert "FunctionError" not in answer, said
            uid, groups = said
            assert uid not in {0, os.getuid()}
            assert groups == []
    finally:
        subprocess.run(["rm", "-rf", str(cache)], check=True)
