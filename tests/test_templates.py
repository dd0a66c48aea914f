"""`package` writes what `chalice package` and `chalice generate-models` do, by their own code."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalice_ci.template import PackageFormat, TemplateRefused, TemplateRequest, check_template
from chalice_ci.templating import MergeUnreadable, merge_file
from support.chalicecli import PlainChalice, Said
from support.commandline import Ran, commit
from support.inprocess import run_here
from support.shapes import APPS, BY_NAME
from support.shapes import SHAPES as ALL
from support.stories import app_key, kept_folder, make_repository, tool_environ

_SOME = ("rest", "functions", "authorizers")
SHAPES = (
    *_SOME,
    *(
        shape.name
        for shape in ALL
        if os.environ.get("TEMPLATES") == "all"
        if shape.name not in _SOME and shape.deploys and shape.apps == (".",)
        if not (APPS / shape.name / "requirements.txt").exists()
        or not (APPS / shape.name / "requirements.txt").read_text().strip()
    ),
)
"""Without dependencies, since what is compared are templates; `make test-deep` compares all."""

# Terraform has policies as text, so that quotes are escaped there.
SID = re.compile(r'(\\*"Sid\\*": \\*")[0-9a-f]{32}\b')
MERGED: Mapping[str, Any] = {
    "Resources": {
        "APIHandler": {"Properties": {"MemorySize": 1024, "CodeUri": "s3://elsewhere/x.zip"}},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": {"TableName": "orders"}},
    },
    "Outputs": {"TableName": {"Value": "orders"}},
}
IN_YAML = """\
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties: {TableName: !Sub "${AWS::StackName}-orders"}
Outputs:
  Arn: {Value: !GetAtt Table.Arn}
"""


class Repository:
    """All shapes, for both command lines."""

    def __init__(self, root: Path, chalice: PlainChalice) -> None:
        self.root, self.chalice = root, chalice
        self.environ = {
            **tool_environ(root.parent / "home"),
            "AWS_DEFAULT_REGION": "eu-west-1",
            "CHALICE_CI_CACHE_DIR": f"{kept_folder()}/cache",
            "CHALICE_CI_QUIET": "true",
        }

    def ours(self, *arguments: str) -> Ran:
        return run_here("package", "--stage", "dev", *arguments, cwd=self.root, **self.environ)

    def plain(self, shape: str, *arguments: str) -> Said:
        region = {"AWS_DEFAULT_REGION": "eu-west-1"}
        return self.chalice.run(self.root / shape, arguments, environ=region)

    def place(self, shape: str, name: str) -> Path:
        return self.root / "chalice-ci-out" / app_key(BY_NAME[shape], ".") / "dev" / name

    def file(self, shape: str, name: str) -> Any:
        return json.loads(self.place(shape, name).read_text())


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    with tempfile.TemporaryDirectory(prefix="chalice-ci-templates-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        root = make_repository(place / "shop", [BY_NAME[name] for name in SHAPES])
        (root / ".gitignore").write_text("chalice-ci-out/\n.chalice/\n")
        commit(root, "Ignore")
        environ = tool_environ(place / "home")
        with PlainChalice(Path(sys.executable), environ=environ) as chalice:
            yield Repository(root, chalice)


def settled(document: Any) -> Any:
    """Without the ids of statements: Chalice's are random, ours say what the statement does."""
    return json.loads(SID.sub(r"\1", json.dumps(document)))


@pytest.fixture(scope="module")
def terraform(repository: Repository) -> Ran:
    return repository.ours("--pkg-format", "terraform")


def test_what_chalice_has_no_terraform_for_is_a_failure_of_that_stage_alone(
    repository: Repository, terraform: Ran
) -> None:
    assert terraform.code == 11
    assert "package-failed  chalice.tf.json" in terraform.out
    assert "LogGroup" in terraform.out
    said = repository.plain("functions", "package", "--pkg-format", "terraform", "out")
    assert said.code != 0
    assert "LogGroup" in said.text
    place = repository.root / "chalice-ci-out/functions/dev"
    assert (place / "deployment.zip").exists()
    assert not (place / "chalice.tf.json").exists()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_terraform_is_that_of_chalice_package(
    repository: Repository, terraform: Ran, shape: str
) -> None:
    place = repository.place(shape, "chalice.tf.json")
    with tempfile.TemporaryDirectory() as out:
        said = repository.plain(shape, "package", "--pkg-format", "terraform", out)
        if said.code != 0:
            assert not place.exists(), said.text
            assert f"{app_key(BY_NAME[shape], '.')}/dev  failed" in terraform.out
            return
        wanted = json.loads(Path(out, "chalice.tf.json").read_text())
    found = repository.file(shape, "chalice.tf.json")
    assert settled(found) == settled(wanted)
    functions = found["resource"]["aws_lambda_function"].values()
    assert {one["filename"] for one in functions} == {"${path.module}/deployment.zip"}
    assert not (place.parent / "sam.json").exists()


@pytest.mark.parametrize("shape", ["rest", "functions"])
def test_the_models_are_those_of_chalice_generate_models(
    repository: Repository, terraform: Ran, shape: str
) -> None:
    assert "Traceback" not in terraform.out
    said = repository.plain(shape, "generate-models")
    place = repository.place(shape, "models.json")
    if said.code != 0:
        assert "No REST API" in said.text
        assert not place.exists()
    else:
        assert repository.file(shape, "models.json") == json.loads(said.text)
    assert place.exists() == (shape == "rest")


@pytest.mark.parametrize(
    ("name", "text"),
    [("merge.json", json.dumps(MERGED)), ("merge.yaml", IN_YAML)],
    ids=["json", "yaml"],
)
def test_a_merged_template_is_that_of_chalice_package(
    repository: Repository, tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    ran = repository.ours("--app", "rest", "--merge-template", str(file))
    assert ran.code == 0, ran.out + ran.err
    said = repository.plain("rest", "package", "--merge-template", str(file), str(tmp_path / "p"))
    assert said.code == 0, said.text
    (written,) = (tmp_path / "p").glob("sam.*")
    # Chalice writes YAML where YAML is merged; every JSON is YAML.
    assert settled(repository.file("rest", "sam.json")) == settled(
        yaml.safe_load(written.read_text())
    )
    assert "Table" in repository.file("rest", "sam.json")["Resources"]


def test_a_template_is_the_same_each_time(repository: Repository, terraform: Ran) -> None:
    place = repository.root / "chalice-ci-out/authorizers/dev/chalice.tf.json"
    before = place.read_bytes()
    place.unlink()
    assert repository.ours("--app", "authorizers", "--pkg-format", "terraform").code == 0
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "arguments", "told"),
    [
        ("none.json", None, (), "there is no such file"),
        ("bad.json", b"{", (), "not valid JSON"),
        ("bad.yaml", b"a: [", (), "not valid YAML"),
        ("list.yaml", b"- a", (), "must be a mapping"),
        ("list.json", b'{"Resources": []}', (), "`Resources` must be a mapping"),
        ("raw.json", b"\xff", (), "not UTF-8"),
        ("any.json", b"{}", ("--pkg-format", "terraform"), "CloudFormation only"),
    ],
)
def test_what_cannot_be_merged_is_told_before_anything_is_built(
    repository: Repository,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ran = repository.ours("--merge-template", str(tmp_path / name), *arguments)
    assert ran.code == 2
    assert told in ran.err


# -- what a hostile app may not answer -------------------------------------------------------------


def sam(uri: str = "./deployment.zip") -> Any:
    function = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": uri}}
    return {"Resources": {"One": function}}


def tf(filename: str = "${path.module}/deployment.zip") -> Any:
    return {"resource": {"aws_lambda_function": {"one": {"filename": filename}}}}


REFUSED: tuple[tuple[PackageFormat, Callable[[], Any]], ...] = (
    (PackageFormat.CLOUDFORMATION, lambda: sam("s3://elsewhere/code.zip")),
    (PackageFormat.CLOUDFORMATION, lambda: {"Resources": {"One": {"Type": 1}}}),
    (PackageFormat.CLOUDFORMATION, tf),
    (PackageFormat.TERRAFORM, lambda: tf("/etc/passwd")),
    (PackageFormat.TERRAFORM, lambda: {"resource": {"aws_lambda_function": ["x"]}}),
    (PackageFormat.TERRAFORM, lambda: {"resource": {"aws_lambda_layer_version": {"a": {}}}}),
    (PackageFormat.TERRAFORM, sam),
)


@pytest.mark.parametrize(("form", "made"), REFUSED)
def test_a_template_with_code_from_elsewhere_is_refused(
    form: PackageFormat, made: Callable[[], Any]
) -> None:
    with pytest.raises(TemplateRefused):
        check_template(made(), TemplateRequest(form=form))


def test_only_what_the_merged_file_names_may_take_code_from_elsewhere() -> None:
    merge = merge_file("a.yml", "Resources: {One: {Properties: {CodeUri: !Ref Code}}}")
    assert merge.resources == {"One"}
    foreign = sam("s3://elsewhere/code.zip")
    check_template(foreign, TemplateRequest(merge=merge))
    foreign["Resources"]["Two"] = foreign["Resources"]["One"]
    with pytest.raises(TemplateRefused):
        check_template(foreign, TemplateRequest(merge=merge))
    check_template(sam(), TemplateRequest())
    check_template(tf(), TemplateRequest(form=PackageFormat.TERRAFORM))


def test_a_file_that_nests_too_deep_is_told() -> None:
    for name in ("a.json", "a.yaml"):
        with pytest.raises(MergeUnreadable):
            merge_file(name, "[" * 1_500)
