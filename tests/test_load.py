"""Loading real apps in the sandbox, by the app's own Chalice."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.client import LoadRequest, LoadResult, SecretAtLoad, load_app
from chalice_ci.app.sandbox import Limits, Owner, copy_project, remove_tree
from chalice_ci.ci_secrets import SecretVariable
from chalice_ci.config import AppConfig
from chalice_ci.errors import LoadError
from chalice_ci.graph import Loaded, LoadFailure
from chalice_ci.template import TemplateRequest
from support.apppythons import LATEST, PAIRS, RUNNING, app_python

HEAD = "from chalice import Chalice\napp = Chalice(app_name='orders')\n"
ROUTE = "\n@app.route('/')\ndef index():\n    return {}\n"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def work_dir() -> Iterator[Path]:
    """A folder that other users can traverse; pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="chalice-ci-test-"))
    folder.chmod(0o711)
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


class Project:
    def __init__(self, root: Path, work_dir: Path) -> None:
        self.root = root
        self.work_dir = work_dir
        self.config({"version": "2.0", "app_name": "orders", "stages": {"dev": {}}})

    def config(self, config: object) -> None:
        self.write({".chalice/config.json": json.dumps(config)})

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def result(
        self,
        source: str | None = None,
        *,
        chalice: str = LATEST,
        python: str = RUNNING,
        **more: Any,
    ) -> LoadResult:
        if source is not None:
            self.write({"app.py": source})
        request: dict[str, Any] = {"stage": "dev", "region": "eu-west-1", **more}
        return load_app(
            LoadRequest(
                app_dir=self.root,
                app=AppConfig(name="orders", path="services/orders"),
                python=app_python(chalice, python),
                **request,
            ),
            work_dir=self.work_dir,
        )

    def loaded(self, source: str | None = None, **more: Any) -> Loaded:
        result = self.result(source, **more)
        assert isinstance(result.answer, Loaded), (result.answer, result.output)
        return result.answer

    def failure(self, source: str | None = None, **more: Any) -> LoadFailure:
        answer = self.result(source, **more).answer
        assert isinstance(answer, LoadFailure)
        return answer


@pytest.fixture
def project(tmp_path: Path, work_dir: Path) -> Project:
    return Project(tmp_path / "orders", work_dir)


# -- what is found


@pytest.mark.parametrize(("chalice", "python"), PAIRS)
def test_every_supported_chalice_loads_and_gives_the_same_graph_twice(
    project: Project, chalice: str, python: str
) -> None:
    source = HEAD + textwrap.dedent("""
        import boto3
        app.experimental_feature_flags.update(['WEBSOCKETS'])
        s3 = boto3.client('s3')

        @app.route('/', methods=['GET', 'PUT'])
        def index():
            return s3.list_buckets()

        @app.on_sqs_message(queue='jobs')
        def worker(event):
            pass

        @app.on_ws_message()
        def message(event):
            pass
    """)
    one = project.loaded(source, chalice=chalice, python=python, template=TemplateRequest())
    two = project.loaded(source, chalice=chalice, python=python)
    assert (one.chalice_version, one.python_version) == (chalice, python)
    assert one.graph.digest == two.graph.digest
    assert one.flags == ("WEBSOCKETS",)
    assert [(use.name, str(use.at)) for use in one.features] == [
        ("WEBSOCKETS", "services/orders/app.py:16")
    ]
    (policy,) = one.graph.of_type("AutoGenIAMPolicy")
    assert "s3:ListAllMyBuckets" in json.dumps(policy.fields["document"])
    assert one.template is not None
    assert two.template is None


@pytest.mark.skipif(not IS_ROOT, reason="a uid of its own needs root")
def test_the_level_is_full_as_root_on_this_machine(project: Project) -> None:
    isolation = project.result(HEAD).isolation
    assert (isolation.level, isolation.reasons) == ("full", ())


def test_a_print_at_import_is_shown_and_cannot_command_the_runner(project: Project) -> None:
    lines: list[str] = []
    source = HEAD + "print('::add-mask::e')\nimport sys; sys.stderr.write('a\\r##[error]b\\n')\n"
    project.write({"app.py": source})
    result = load_app(
        LoadRequest(
            app_dir=project.root,
            app=AppConfig(name="orders", path="."),
            stage="dev",
            region="eu-west-1",
            python=app_python(),
        ),
        work_dir=project.work_dir,
        log=lines.append,
    )
    assert isinstance(result.answer, Loaded)
    assert lines == result.output.splitlines()
    assert set(lines) == {": :add-mask::e", "# #[error]b", "a"}


def test_a_cleared_note_of_a_websocket_handler_is_found_by_the_handler(project: Project) -> None:
    source = HEAD + (
        "@app.on_ws_connect()\ndef hello(event):\n    pass\n\n"
        "app._features_used.clear()\napp._features_used = set()\n"
    )
    assert {(use.name, str(use.at)) for use in project.loaded(source).features} == {
        ("WEBSOCKETS", "services/orders/app.py:3")
    }


def test_a_feature_of_a_blueprint_is_found_where_it_is_registered_and_where_it_is_written(
    project: Project,
) -> None:
    project.write(
        {
            "chalicelib/__init__.py": "",
            "chalicelib/live.py": """
                from chalice import Blueprint
                live = Blueprint(__name__)

                @live.on_ws_message()
                def message(event):
                    pass
            """,
        }
    )
    app = project.loaded(
        HEAD + "from chalicelib.live import live\n\napp.register_blueprint(live)\n"
    )
    assert {(use.via, str(use.at)) for use in app.features} == {
        ("register_blueprint", "services/orders/app.py:5"),
        ("handler", "services/orders/chalicelib/live.py:5"),
    }


def test_an_unregistered_blueprint_uses_nothing(project: Project) -> None:
    source = HEAD + (
        "from chalice import Blueprint\nbp = Blueprint('x')\n"
        "@bp.on_ws_message()\ndef message(event):\n    pass\n"
    )
    assert project.loaded(source).features == ()


def test_a_second_app_is_listed_with_its_features(project: Project) -> None:
    source = (
        "from chalice import Chalice\nother = Chalice(app_name='other')\n"
        "@other.on_ws_message()\ndef message(event):\n    pass\n"
        "app = Chalice(app_name='orders')\n"
    )
    app = project.loaded(source)
    assert app.features == ()
    (other,) = app.other_apps
    assert (other.app_name, str(other.at)) == ("other", "services/orders/app.py:2")
    assert [str(use.at) for use in other.features] == ["services/orders/app.py:3"]


@pytest.mark.parametrize(
    ("statement", "kind", "values"),
    [
        ("app.experimental_feature_flags = 'WEBSOCKETS_X'", "str", ("WEBSOCKETS_X",)),
        ("app.experimental_feature_flags.update('NO')", "set", ("N", "O")),
        ("app.experimental_feature_flags = ['B', 'A']", "list", ("A", "B")),
        ("app.experimental_feature_flags = None", "NoneType", ()),
        ("app.experimental_feature_flags = {1, 'A'}", "set", ("A",)),
    ],
)
def test_flags_are_reported_as_they_are(
    project: Project, statement: str, kind: str, values: tuple[str, ...]
) -> None:
    app = project.loaded(HEAD + statement + "\n")
    assert (app.flags_kind, app.flags) == (kind, values)


def test_a_feature_behind_a_variable_is_seen_in_the_stage_that_sets_it(project: Project) -> None:
    project.config(
        {
            "app_name": "orders",
            "stages": {"dev": {}, "live": {"environment_variables": {"LIVE": "1"}}},
        }
    )
    source = HEAD + (
        "import os\nif os.environ.get('LIVE'):\n"
        "    @app.on_ws_message()\n    def message(event):\n        pass\n"
    )
    assert project.loaded(source).features == ()
    assert len(project.loaded(source, stage="live").features) == 1


def test_every_objection_of_chalices_validation_is_reported(project: Project) -> None:
    project.config(
        {
            "app_name": "orders",
            "manage_iam_role": False,
            "api_gateway_endpoint_type": "LOCAL",
            "minimum_compression_size": -1,
            "iam_role_arn": "",
        }
    )
    source = HEAD + (
        "@app.route('/a/')\ndef a():\n    pass\n"
        "@app.route('/b/')\ndef b():\n    pass\n"
        "@app.on_sqs_message(queue='arn:x')\ndef c(event):\n    pass\n"
    )
    texts = "\n".join(project.loaded(source).validation)
    for part in ("/a/", "/b/", "iam_role_arn", "endpoint type", "minimum_compression", "queue"):
        assert part in texts


def test_a_preview_has_the_settings_and_the_policy_file_of_its_model(project: Project) -> None:
    project.config(
        {
            "app_name": "orders",
            "stages": {
                "dev": {
                    "autogen_policy": False,
                    "environment_variables": {"A": "1"},
                    "api_gateway_custom_domain": {
                        "domain_name": "dev.example.org",
                        "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
                    },
                }
            },
        }
    )
    project.write({".chalice/policy-dev.json": '{"Version": "2012-10-17", "Statement": []}'})
    app = project.loaded(HEAD + ROUTE, stage="pr-7", like="dev")
    (policy,) = app.graph.of_type("FileBasedIAMPolicy")
    assert policy.fields["filename"] == ".chalice/policy-dev.json"
    (function,) = app.graph.functions
    assert function.fields["function_name"] == "orders-pr-7"
    assert function.fields["environment_variables"] == {"A": "1"}
    assert not (project.root / ".chalice/policy-pr-7.json").exists()
    # But not its domain, which there is once.
    assert list(app.graph.of_type("DomainName")) == []
    assert len(list(project.loaded(HEAD + ROUTE, stage="dev").graph.of_type("DomainName"))) == 1


def test_a_policy_file_of_one_function_stays_its_own_in_a_preview(project: Project) -> None:
    project.config(
        {
            "app_name": "orders",
            "stages": {"dev": {"autogen_policy": False}},
            "lambda_functions": {"one": {"iam_policy_file": "one.json"}},
        }
    )
    project.write({".chalice/policy-dev.json": "{}", ".chalice/one.json": "{}"})
    source = HEAD + "".join(
        f"@app.lambda_function()\ndef {name}(event, context):\n    pass\n"
        for name in ("one", "two")
    )
    for more in ({"stage": "pr-7", "like": "dev"}, {"stage": "dev"}):
        policies = project.loaded(source, **more).graph.of_type("FileBasedIAMPolicy")
        assert {policy.fields["filename"] for policy in policies} == {
            ".chalice/one.json",
            ".chalice/policy-dev.json",
        }


def test_an_empty_managed_layer_is_pruned(project: Project) -> None:
    project.config({"app_name": "orders", "automatic_layer": True})
    full = project.loaded(HEAD + ROUTE)
    assert len(full.graph.of_type("LambdaLayer")) == 1
    assert {package.fields["filename"] for package in full.graph.of_type("DeploymentPackage")} == {
        "app",
        "layer",
    }
    empty = project.loaded(HEAD + ROUTE, layer_is_empty=True)
    assert empty.graph.of_type("LambdaLayer") == ()
    assert len(empty.graph.of_type("DeploymentPackage")) == 1


def test_a_template_that_chalice_cannot_make_is_no_failed_load(project: Project) -> None:
    source = HEAD + "@app.on_s3_event(bucket='b')\ndef f(event):\n    pass\n"
    app = project.loaded(source, template=TemplateRequest())
    assert app.template is None
    assert "on_s3_event" in str(app.template_error)


@pytest.mark.parametrize(
    ("shape", "region"),
    [("authorizers", "eu-west-1"), ("websockets", "cn-north-1"), ("schedule", "us-gov-west-1")],
)
def test_the_template_is_that_of_chalice_package(
    tmp_path: Path, project: Project, shape: str, region: str
) -> None:
    """Except for the statement ids of generated policies, which Chalice draws by lot."""
    python = app_python()
    shutil.copytree(Path(__file__).parent / "apps" / shape, project.root, dirs_exist_ok=True)
    app = project.loaded(template=TemplateRequest(), region=region)
    environ = {**os.environ, "AWS_DEFAULT_REGION": region, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [python.executable.with_name("chalice"), "package", tmp_path / "out"],
        cwd=project.root,
        env=environ,
        check=True,
        capture_output=True,
    )
    theirs = (tmp_path / "out/sam.json").read_text()
    drawn = re.compile(r'"Sid": "[0-9a-f]{32}"')
    ours = drawn.sub("", json.dumps(app.template, sort_keys=True))
    assert ours == drawn.sub("", json.dumps(json.loads(theirs), sort_keys=True))


DB_URL = SecretAtLoad(variable=SecretVariable(variable="DB_URL", secret="DB"))


def test_secrets_are_placeholders_and_protected_variables_stay_out(project: Project) -> None:
    project.config(
        {
            "app_name": "orders",
            "environment_variables": {
                "LD_PRELOAD": "/x.so",
                "PYTHONPATH": "/evil",
                "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
                "Https_Proxy": "http://127.0.0.1:9",
                "HOME": "/evil",
                "GIT_SHA": "abc",
            },
        }
    )
    source = HEAD + "import json, os\nprint(json.dumps(dict(os.environ)))\n" + ROUTE
    result = project.result(source, secrets=(DB_URL,))
    app = result.answer
    assert isinstance(app, Loaded)
    environ = json.loads(result.output)
    assert environ["DB_URL"] == "chalice-ci:secret:DB"
    assert environ["GIT_SHA"] == "abc"
    assert environ["HOME"] != "/evil"
    assert app.withheld == (
        "AWS_ENDPOINT_URL_STS",
        "HOME",
        "Https_Proxy",
        "LD_PRELOAD",
        "PYTHONPATH",
    )
    assert not set(app.withheld) - {"HOME"} & set(environ)
    (function,) = app.graph.functions
    # They are still the function's, in Lambda.
    assert function.fields["environment_variables"]["PYTHONPATH"] == "/evil"  # type: ignore[index]


def test_an_app_may_have_modules_with_the_loaders_names(project: Project) -> None:
    project.write(
        {
            "codec.py": "NAME = 'mine'\n",
            "load.py": "NAME = 'mine'\n",
            "chalice_ci_child/__init__.py": "NAME = 'mine'\n",
        }
    )
    app = project.loaded(
        HEAD + "import codec, load\nassert codec.NAME == load.NAME == 'mine'\n" + ROUTE
    )
    assert len(app.routes) == 1


def test_a_client_and_an_event_loop_can_be_made_at_import(project: Project) -> None:
    source = HEAD + (
        "import asyncio, boto3\nboto3.client('dynamodb'); boto3.resource('s3')\n"
        "asyncio.new_event_loop().close()\n"
    )
    project.loaded(source)


# -- what goes wrong

BROKEN: dict[str, tuple[str, str, str | None, str]] = {
    "a missing dependency": ("import requestz\n", "import-error", "app.py:1", "requestz"),
    "a syntax error": (HEAD + "def x(:\n", "syntax-error", "app.py:3", "invalid syntax"),
    "an exit": (HEAD + "import sys\nsys.exit('no DB')\n", "system-exit", "app.py:4", "no DB"),
    "a hard exit": (HEAD + "import os\nos._exit(3)\n", "system-exit", None, "exit code 3"),
    "no app": ("x = 1\n", "missing-app", "app.py", "no variable named `app`"),
    "another name": (
        "from chalice import Chalice\napi = Chalice(app_name='x')\n",
        "missing-app",
        "app.py",
        "`api`",
    ),
    "another type": ("app = {}\n", "wrong-type", "app.py", "builtins.dict"),
    "an AWS call": (
        HEAD + "import boto3\nboto3.client('sts').get_caller_identity()\n",
        "credentials",
        "app.py:4",
        "credentials",
    ),
    "an unsigned request": (
        HEAD + "import urllib.request\nurllib.request.urlopen('http://example.org')\n",
        "network",
        "app.py:4",
        "",
    ),
    "a socket": (
        HEAD + "import socket\nsocket.create_connection(('127.0.0.1', 9))\n",
        "network",
        "app.py:4",
        "not permitted",
    ),
    "a missing variable": (
        HEAD + "import os\nos.environ['DB_URL']\n",
        "environment",
        "app.py:4",
        "DB_URL",
    ),
    "an error of its own": (HEAD + "raise ValueError('::x')\n", "exception", "app.py:3", ": :x"),
    "a file outside": (HEAD + "open('/tmp/chalice-ci-x', 'w')\n", "filesystem", "app.py:3", "/tmp"),
    "memory": (HEAD + "x = 'x' * 10**11\n", "memory", "app.py:3", ""),
    "recursion": (HEAD + "def f():\n    f()\nf()\n", "exception", "app.py:4", "recursion"),
    "a crash": (HEAD + "import ctypes\nctypes.string_at(0)\n", "killed", None, "SIGSEGV"),
    "a suicide": (HEAD + "import os\nos.kill(os.getpid(), 9)\n", "killed", None, "SIGKILL"),
    "an interrupt": (HEAD + "raise KeyboardInterrupt\n", "exception", "app.py:3", ""),
}


@pytest.mark.parametrize(("source", "kind", "at", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_app_is_an_answer_with_its_line(
    project: Project, source: str, kind: str, at: str | None, said: str
) -> None:
    if kind == "filesystem" and project.result(HEAD).isolation.level == "none":
        pytest.skip("nothing holds files here")
    failure = project.failure(source)
    assert failure.kind == kind, failure
    assert str(failure.at) == f"services/orders/{at}" if at else failure.at is None
    assert said in failure.message
    assert str(project.work_dir) not in failure.message


def test_an_import_that_fails_in_a_library_names_the_library_without_folders(
    project: Project,
) -> None:
    failure = project.failure(HEAD + "import chalice.cdk.construct\n")

    assert (failure.kind, failure.subject) == ("import-error", "aws_cdk")
    assert "(imported by chalice/cdk/" in failure.message
    assert "site-packages" not in failure.message
    assert str(failure.at) == "services/orders/app.py:3"


def test_an_import_of_the_app_itself_names_no_library(project: Project) -> None:
    assert "imported by" not in project.failure(HEAD + "import requestz\n").message


def test_a_message_names_installed_files_without_folders(project: Project) -> None:
    failure = project.failure(HEAD + "from base64 import decodestring\n")

    assert "from 'base64' (base64.py)" in failure.message


@pytest.mark.parametrize(
    "loop", ["while True:\n    pass\n", "import time\ntime.sleep(60)\n"], ids=["busy", "asleep"]
)
def test_an_endless_import_is_stopped_at_its_line(project: Project, loop: str) -> None:
    for seconds in (2, 8, 32):
        failure = project.failure(HEAD + "\n" + loop, limits=Limits(wall_seconds=seconds))
        if failure.at is not None:
            break  # else this machine needs longer to come to the loop
    assert failure.kind == "timeout"
    assert str(failure.at) in ("services/orders/app.py:4", "services/orders/app.py:5")


def test_an_endless_import_that_swallows_everything_is_killed(project: Project) -> None:
    source = HEAD + (
        "import time\nwhile True:\n    try:\n        time.sleep(9)\n"
        "    except BaseException:\n        pass\n"
    )
    result = project.result(source, limits=Limits(wall_seconds=3))
    assert isinstance(result.answer, LoadFailure)
    assert result.answer.kind == "timeout"
    assert result.seconds < 30


def test_the_way_to_a_failure_is_told_in_the_apps_files(project: Project) -> None:
    project.write(
        {
            "chalicelib/__init__.py": "from . import db\n",
            "chalicelib/db.py": "import boto3\n\nraise RuntimeError('no')\n",
        }
    )
    failure = project.failure(HEAD + "import chalicelib\n")
    assert [str(frame.at) for frame in failure.frames] == [
        "services/orders/app.py:3",
        "services/orders/chalicelib/__init__.py:1",
        "services/orders/chalicelib/db.py:3",
    ]
    assert failure.at == failure.frames[-1].at


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "9"}', '{"version": "x"}'])
def test_an_unusable_configuration_is_an_answer(project: Project, text: str) -> None:
    project.write({".chalice/config.json": text})
    assert project.failure(HEAD).kind == "configuration"


def test_a_variable_that_is_no_text_is_named(project: Project) -> None:
    project.config({"app_name": "orders", "environment_variables": {"PORT": 8080}})
    failure = project.failure(HEAD)
    assert failure.kind == "configuration"
    assert "PORT" in failure.message
    assert str(failure.at) == "services/orders/.chalice/config.json"


def test_a_missing_policy_file_is_chalices_word(project: Project) -> None:
    project.config({"app_name": "orders", "autogen_policy": False})
    failure = project.failure(HEAD + ROUTE)
    assert failure.kind == "chalice"
    assert "policy-dev.json" in failure.message


def test_a_folder_without_app_py_is_an_answer(project: Project) -> None:
    assert project.failure().kind == "missing-app"


def test_an_environment_without_chalice_says_so(project: Project) -> None:
    bare = app_python()
    project.write({"app.py": HEAD})

    class WithoutChalice:
        executable = bare.executable.resolve()
        version = bare.version
        chalice = bare.chalice

    result = load_app(
        LoadRequest(
            app_dir=project.root,
            app=AppConfig(name="orders", path="."),
            stage="dev",
            region="eu-west-1",
            python=WithoutChalice(),
        ),
        work_dir=project.work_dir,
    )
    assert isinstance(result.answer, LoadFailure)
    assert result.answer.kind == "chalice"
    assert "No module named 'chalice'" in result.answer.message


# -- the copy


def copied(
    source: Path, target: Path, without: Path | None = None, **limits: int
) -> tuple[list[str], tuple[str, ...]]:
    warnings = copy_project(source, target, owner=Owner(), limits=Limits(**limits), without=without)
    files = sorted(
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )
    return files, warnings


def test_the_copy_is_the_app_without_what_is_not_the_app(tmp_path: Path, project: Project) -> None:
    project.write(
        {
            "app.py": "",
            "chalicelib/x.py": "",
            "chalicelib/__pycache__/x.pyc": "",
            "vendor/lib/y.py": "",
            ".git/config": "token",
            "sub/.git/config": "token",
            ".chalice/deployed/dev.json": "{}",
            ".chalice/deployed.json": "{}",
            ".chalice/deployments/old.zip": "",
            "env/pyvenv.cfg": "",
            "env/lib/z.py": "",
        }
    )
    files, warnings = copied(project.root, tmp_path / "copy")
    assert files == [".chalice/config.json", "app.py", "chalicelib/x.py", "vendor/lib/y.py"]
    assert warnings == ()


def test_links_that_leave_and_things_that_are_no_files_are_left_out(
    tmp_path: Path, project: Project
) -> None:
    project.write({"app.py": "", "lib/x.py": ""})
    (tmp_path / "secret").write_text("secret")
    (project.root / "out").symlink_to(tmp_path / "secret")
    (project.root / "up").symlink_to("..")
    (project.root / "proc").symlink_to("/proc/self/environ")
    (project.root / "in").symlink_to(project.root / "lib")
    (project.root / "lib/again").symlink_to("../app.py")
    (project.root / "loop").symlink_to("loop")
    os.mkfifo(project.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(project.root / "socket"))
        files, warnings = copied(project.root, tmp_path / "copy")
    assert set(files) == {
        ".chalice/config.json",
        "app.py",
        "lib/x.py",
        "lib/again",
        "in",
        "loop",
    }
    assert os.readlink(tmp_path / "copy/in") == "lib"
    assert {warning.split()[0] for warning in warnings} == {"out", "up", "proc", "fifo", "socket"}


@pytest.mark.skipif(not IS_ROOT, reason="another user's file needs root")
def test_another_users_file_linked_into_the_app_is_left_out(
    tmp_path: Path, project: Project
) -> None:
    project.write({"app.py": "", "own.py": ""})
    os.link(project.root / "own.py", project.root / "twice.py")
    foreign = tmp_path / "foreign"
    foreign.write_text("secret")
    os.chown(foreign, 12345, 12345)
    os.link(foreign, project.root / "linked.py")
    files, warnings = copied(project.root, tmp_path / "copy")
    assert "linked.py" not in files
    assert {"own.py", "twice.py"} <= set(files)
    assert [warning.split()[0] for warning in warnings] == ["linked.py"]


@pytest.mark.parametrize("limits", [{"project_files": 3}, {"project_bytes": 100}])
def test_an_app_beyond_the_limits_is_refused(
    tmp_path: Path, project: Project, limits: dict[str, int]
) -> None:
    project.write({f"f{number}.py": "x" * 50 for number in range(5)})
    with pytest.raises(LoadError, match="more than"):
        copied(project.root, tmp_path / "copy", **limits)


@pytest.mark.parametrize(
    ("out", "files"),
    [
        ("out", [".chalice/config.json", "app.py"]),
        (".chalice", [".chalice/config.json", "app.py", "out/dev.plan"]),
        (".", [".chalice/config.json", "app.py", "out/dev.plan"]),
    ],
)
def test_what_runs_wrote_is_not_seen_by_the_app(
    tmp_path: Path, project: Project, out: str, files: list[str]
) -> None:
    project.write({"app.py": "", ".chalice/config.json": "{}", "out/dev.plan": "values"})
    assert copied(project.root, tmp_path / "copy", project.root / out) == (files, ())


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_the_copy_is_closed_to_others_and_not_the_apps_to_change(
    tmp_path: Path, project: Project
) -> None:
    project.write({"app.py": ""})
    owner = Owner()
    copy_project(project.root, tmp_path / "copy", owner=owner, limits=Limits())
    for path in (tmp_path / "copy", tmp_path / "copy/app.py"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (0, owner.uid)
        assert status.st_mode & 0o027 == 0


def test_a_hostile_folder_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    (root / "closed").mkdir(mode=0o000)
    (root / "link").symlink_to("/")
    os.mkfifo(root / "fifo")
    remove_tree(root)
    assert not root.exists()
