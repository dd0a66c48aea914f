"""What was deployed is known, can be checked, and can be gone back to."""

from __future__ import annotations

import json

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from chalice_ci.state.releases import Release, chosen, parse, render, with_release
from chalice_ci.state.schema import StateDamaged
from support.awsclients import clients_of
from support.awslisting import list_account
from support.commandline import commit, git, hello, write
from support.inprocess import run_here
from support.steps import event

APP = """import vendored
from chalice import Chalice

app = Chalice(app_name="hello")
app.experimental_feature_flags.update(["WEBSOCKETS"])


@app.route("/")
def index():
    return {"release": 1}


@app.on_ws_message()
def message(event):
    pass


@app.on_sns_message(topic="orders")
def ordered(event):
    pass


@app.on_s3_event(bucket="uploads")
def uploaded(event):
    pass


@app.on_sqs_message(queue="jobs")
def worker(event):
    pass


@app.schedule("rate(1 hour)")
def hourly(event):
    pass
"""


CONFIG = """{
  "version": "2.0",
  "app_name": "hello",
  "automatic_layer": true,
  "stages": {"dev": {
    "api_gateway_endpoint_type": "REGIONAL",
    "api_gateway_custom_domain": {
      "domain_name": "api.example.com", "certificate_arn": "CERTIFICATE"
    },
    "websocket_api_custom_domain": {
      "domain_name": "live.example.com", "certificate_arn": "CERTIFICATE"
    }
  }}
}
"""


def release(number, plan="kept"):
    return Release(
        digest=f"{number:064x}", commit=f"{number:040x}", tree="", run="", run_url="", plan=plan,
        time="2026-01-01T00:00:00Z", tool="0", packages=(("app", "a" * 64),),
    )  # fmt: skip


def test_the_last_plans_are_kept_and_more_names():
    releases = ()
    for number in range(1, 31):
        releases = with_release(releases, release(number), keep=3)
    assert [bool(one.plan) for one in releases] == [True] * 3 + [False] * 17
    assert parse(render(releases), where="x") == releases
    assert with_release((), release(1, "x" * 3_000_000), keep=3)[0].plan == ""


def test_the_release_before_is_another_plan_than_what_stands():
    import dataclasses

    three, two, one = release(3), release(2), release(1)
    assert chosen((three, two, one), "") == two
    back = dataclasses.replace(release(4), rolled_back_to=two.digest)
    assert chosen((back, three, two, one), "") == three
    assert chosen((three, two, one), one.commit[:40]) == one
    assert chosen((three,), "") is None
    assert chosen((), "") is None


@pytest.mark.parametrize(
    "raw", [b"{}", b"[]", b"\xff", b'{"format":2,"releases":[]}', b'{"format":1,"releases":[{}]}']
)
def test_a_list_that_we_would_not_write_is_refused(raw):
    with pytest.raises(StateDamaged):
        parse(raw, where="x")


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


def client(aws, service):
    return boto3.client(
        service,
        endpoint_url=aws.environ["AWS_ENDPOINT_URL"],
        region_name=aws.environ["AWS_DEFAULT_REGION"],
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )


@pytest.fixture(scope="module")
def deployed(aws, tmp_path_factory):
    """Two releases of an app, the second by a job that has a key."""
    client(aws, "sqs").create_queue(QueueName="jobs")
    client(aws, "sns").create_topic(Name="orders")
    client(aws, "s3").create_bucket(Bucket="uploads")
    certificate = client(aws, "acm").request_certificate(DomainName="*.example.com")
    files = {
        "app.py": APP,
        "vendor/vendored.py": "WORDS = 1\n",
        ".chalice/config.json": CONFIG.replace("CERTIFICATE", certificate["CertificateArn"]),
    }
    repository = hello(tmp_path_factory.mktemp("deployed") / "r", **files)
    here = {"cwd": repository, "CHALICE_CI_SIGNING_KEY": "k" * 32, **aws.environ}
    first = run_here("deploy", **here)
    assert first.code == 0, first.out + first.err
    old = git(repository, "rev-parse", "HEAD")
    write(repository, {"app.py": APP.replace('"release": 1', '"release": 2')})
    commit(repository)
    second = run_here("deploy", **here)
    assert second.code == 0, second.out + second.err
    return here, old


def found(ran):
    return {f["subject"]: f["what"] for f in ran.result["findings"] if f["rule"] == "drift"}


def test_what_was_changed_or_removed_outside_is_found(aws, deployed, tmp_path):
    """One of each kind, at once; before that nothing is."""
    here, _ = deployed
    clean = run_here("plan", "--stage", "dev", "--format", "json", **here)
    assert (clean.code, found(clean)) == (0, {}), clean
    stood = list_account(clients_of(aws)).resources
    functions, rules, iam = (client(aws, name) for name in ("lambda", "events", "iam"))
    functions.update_function_configuration(FunctionName="hello-dev", MemorySize=999)
    functions.delete_function(FunctionName="hello-dev-hourly")
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=7)
    (rule,) = rules.list_rules()["Rules"]
    rules.put_rule(Name=rule["Name"], ScheduleExpression="rate(2 hours)")
    (role,) = (r["RoleName"] for r in iam.list_roles()["Roles"])
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.put_role_policy(
        RoleName=role, PolicyName=policy,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )  # fmt: skip
    apis = client(aws, "apigateway")
    (api,) = apis.get_rest_apis()["items"]
    apis.create_deployment(restApiId=api["id"], stageName="api", description="by hand")
    apis.delete_base_path_mapping(domainName="api.example.com", basePath="(none)")
    sockets = client(aws, "apigatewayv2")
    (live,) = sockets.get_apis()["Items"]
    (route,) = sockets.get_routes(ApiId=live["ApiId"])["Items"]
    sockets.delete_route(ApiId=live["ApiId"], RouteId=route["RouteId"])
    domain = sockets.get_domain_name(DomainName="live.example.com")
    sockets.delete_domain_name(DomainName=domain["DomainName"])
    sns = client(aws, "sns")
    (subscription,) = sns.list_subscriptions()["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    client(aws, "s3").put_bucket_notification_configuration(
        Bucket="uploads", NotificationConfiguration={}
    )
    (layer,) = functions.list_layers()["Layers"]
    functions.delete_layer_version(
        LayerName=layer["LayerName"], VersionNumber=layer["LatestMatchingVersion"]["Version"]
    )

    ran = run_here("plan", "--stage", "dev", "--format", "json", **here)
    assert ran.code == 0, ran.out + ran.err
    drifted = found(ran)
    gone = {"hourly", "managed-layer", "ordered-sns-subscription", "websocket_api_custom_domain"}
    changed = {
        "api_gateway_custom_domain", "api_handler", "default-role", "hourly-event", "rest_api",
        "uploaded-s3event", "websocket_api", "worker-sqs-event-source",
    }  # fmt: skip
    # A new version of the layer changes every function.
    changed |= {"ordered", "uploaded", "websocket_message", "worker"}
    assert {name for name in drifted if "is not there any more" in drifted[name]} == gone
    assert {name for name in drifted if "is not as it was" in drifted[name]} == changed
    assert set(drifted) == gone | changed

    night = event(here["cwd"], tmp_path, "schedule")
    scheduled = run_here("run", "--stage", "dev", "--format", "json", **here, **night)
    assert scheduled.code == 0, scheduled.out + scheduled.err
    assert found(scheduled) == drifted

    put_right = run_here("deploy", "--stage", "dev", **here)
    assert put_right.code == 0, put_right.out + put_right.err
    stands = list_account(clients_of(aws)).resources
    assert {name: stands.get(name) for name in stood} == stood
    assert set(stands) == set(stood)
    again = run_here("plan", "--stage", "dev", "--format", "json", **here)
    assert found(again) == {}


def test_a_stage_tells_where_it_came_from_and_goes_back(aws, deployed):
    here, old = deployed
    functions = client(aws, "lambda")
    verify = ("state", "show", "--stage", "dev", "--verify", "--format", "json")
    good = run_here(*verify, **here)
    assert good.code == 0, good.out + good.err
    note = good.result["note"]
    assert f"commit {git(here['cwd'], 'rev-parse', 'HEAD')}" in note
    assert "live code is that of the release" in note
    assert "building that commit gives the same packages" in note
    newer = functions.get_function_configuration(FunctionName="hello-dev")["CodeSha256"]

    keyless = {**here, "CHALICE_CI_SIGNING_KEY": ""}
    refused = run_here("rollback", "--stage", "dev", **keyless)
    assert refused.code == 16
    assert "encrypted" in refused.err
    nowhere = run_here("rollback", "--stage", "dev", "--to", "f" * 12, **here)
    assert nowhere.code == 2
    assert old[:12] in nowhere.out

    back = run_here("rollback", "--stage", "dev", "--to", old[:12], "--format", "json", **here)
    assert back.code == 0, back.out + back.err
    older = functions.get_function_configuration(FunctionName="hello-dev")["CodeSha256"]
    assert older != newer
    good = run_here(*verify, **here)
    assert good.code == 0, good.out + good.err
    assert f"commit {old}" in good.result["note"]
    assert "rolled back to" in good.result["note"]

    functions.update_function_code(FunctionName="hello-dev", ZipFile=empty_zip())
    bad = run_here(*verify, **here)
    assert bad.code == 1
    (finding,) = bad.result["findings"]
    assert finding["rule"] == "provenance"
    assert "the live app package is" in finding["what"]


@pytest.mark.parametrize("store", ["{store: local}", "{store: s3, bucket: states}"])
def test_a_stage_goes_back_with_the_other_stores_too(aws, tmp_path, store):
    name = f"back-{store[8:10]}"
    app = f"""from chalice import Chalice

app = Chalice(app_name="{name}")


@app.lambda_function()
def work(event, context):
    return 1
"""
    s3 = client(aws, "s3")
    s3.create_bucket(Bucket="states")
    s3.put_bucket_versioning(Bucket="states", VersioningConfiguration={"Status": "Enabled"})
    repository = hello(
        tmp_path / "r",
        **{
            "app.py": app,
            ".chalice/config.json": json.dumps({"version": "2.0", "app_name": name}),
            "chalice-ci.yml": f"version: 1\nstages: {{dev: {{}}}}\nstate: {store}\n",
        },
    )
    here = {"cwd": repository, "CHALICE_CI_SIGNING_KEY": "k" * 32, **aws.environ}
    live = []
    for verb in ("deploy", "deploy", "rollback"):
        if live:
            write(repository, {"app.py": app.replace("return 1", f"return {verb!r}")})
            commit(repository)
        ran = run_here(verb, "--stage", "dev", **here)
        assert ran.code == 0, ran.out + ran.err
        function = client(aws, "lambda").get_function_configuration(FunctionName=f"{name}-dev-work")
        live.append(function["CodeSha256"])
    first, second, back = live
    assert first != second
    assert back == first


def empty_zip():
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", "app = None\n")
    return out.getvalue()
