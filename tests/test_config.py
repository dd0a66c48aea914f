"""chalice-ci.yml: every problem at once, each with its place; no file at all works too."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chalice_ci.config import (
    FILE,
    MAX_BYTES,
    MAX_FINDINGS,
    AppConfig,
    ConfigError,
    DeployOn,
    PackageConfig,
    PreviewConfig,
    ProjectConfig,
    SecretRef,
    SmokeCheck,
    StageConfig,
    StateConfig,
    markdown_table,
    read_project_config,
    schema_text,
)
from chalice_ci.errors import ExitCode
from chalice_ci.findings import Place
from chalice_ci.positions import did_you_mean, plain_data, shown
from chalice_ci.settings import documented
from chalice_ci.yaml_source import MAX_ALIASES, read_yaml

ROOT = Path(__file__).parents[1]
MALFORMED = ROOT / "tests/malformed/chalice-ci"
EXPECTED = json.loads((ROOT / "tests/malformed/chalice-ci.expected.json").read_text("utf-8"))

GOOD = """\
version: 1
apps:
  orders: {path: services/orders, python: "3.12", chalice: "1.34.0"}
  billing: {path: services/billing, load: {network: true}}
stages:
  dev:     {deploy-on: {branch: main}}
  staging: {deploy-on: {branch: main}, needs: dev, smoke: [{path: /health, status: 200}]}
  prod:
    deploy-on: {tag: "v*"}
    environment: production          # GitHub environment with required reviewers
    needs: staging                   # the same package digest must be live there first
    account: "123456789012"
    region: eu-west-1
    allow-experimental: []           # policy: WEBSOCKETS stays out of prod, opted in or not
    smoke: [{path: /health, contains: "ok"}, {path: /orders, status: 401}]
    environment-variables: {DB_URL: {secret: PROD_DB_URL}, API_TOKEN: {secret: API_TOKEN}}
preview:
  like: dev                          # pr-<number> takes dev's settings from .chalice/config.json
  label: preview                     # optional: only pull requests with this label
  ttl: 7d
  limit: 10
experimental:
  allow: [WEBSOCKETS]
state:
  store: git                         # git (default) | s3
  branch: chalice-state
package: {builder: uv, max-size: 50MB}
"""


def app(folder: Path, name: str = "orders", stages: tuple[str, ...] = ("dev",)) -> None:
    (folder / ".chalice").mkdir(parents=True)
    (folder / "app.py").write_text("from chalice import Chalice\n", encoding="utf-8")
    content = {"version": "2.0", "app_name": name, "stages": {stage: {} for stage in stages}}
    (folder / ".chalice/config.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    app(tmp_path / "services/orders", "orders")
    app(tmp_path / "services/billing", "billing")
    return tmp_path


def read(repository: Path, text: str | bytes) -> ProjectConfig:
    raw = text.encode() if isinstance(text, str) else text
    (repository / "chalice-ci.yml").write_bytes(raw)
    return read_project_config(repository)


def outcome(repository: Path) -> ProjectConfig | ConfigError:
    try:
        return read_project_config(repository)
    except ConfigError as error:
        return error


def problems(repository: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(repository, text)
    return [f"{finding.at}: {finding.what}" for finding in caught.value.findings]


# --- a good file ----------------------------------------------------------------------------------


def test_every_key_of_the_good_example_arrives_typed(repository: Path) -> None:
    config = read(repository, GOOD)
    assert config.version == "1"
    assert config.file == "chalice-ci.yml"
    assert config.apps == (
        AppConfig(name="orders", path="services/orders", python="3.12", chalice="1.34.0"),
        AppConfig(name="billing", path="services/billing", network=True),
    )
    dev, staging, prod = config.stages
    assert dev == StageConfig(name="dev", deploy_on=DeployOn(branch="main"))
    assert staging.smoke == (SmokeCheck(path="/health"),)
    assert staging.needs == "dev"
    assert prod == StageConfig(
        name="prod",
        deploy_on=DeployOn(tag="v*"),
        needs="staging",
        environment="production",
        account="123456789012",
        region="eu-west-1",
        allow_experimental=(),
        smoke=(SmokeCheck(path="/health", contains="ok"), SmokeCheck(path="/orders", status=401)),
        environment_variables=(
            ("DB_URL", SecretRef(name="PROD_DB_URL")),
            ("API_TOKEN", SecretRef(name="API_TOKEN")),
        ),
    )
    assert config.preview == PreviewConfig(like="dev", label="preview", ttl_seconds=604_800)
    assert config.experimental_allow == ("WEBSOCKETS",)
    assert config.state == StateConfig(store="git", branch="chalice-state")
    assert config.package == PackageConfig(builder="uv", max_size_bytes=50 * 1024 * 1024)


def test_each_value_remembers_where_it_stands(repository: Path) -> None:
    places = read(repository, GOOD).places
    assert places["stages.prod.region"] == Place(file="chalice-ci.yml", line=13, column=13)
    assert str(places["experimental.allow"]) == "chalice-ci.yml:23:10"
    assert "stages.dev.region" not in places


def test_the_sample_of_the_demo_is_good(tmp_path: Path) -> None:
    shutil.copy(ROOT / "src/chalice_ci/sample/chalice-ci.yml", tmp_path)
    shutil.copytree(ROOT / "src/chalice_ci/sample/orders", tmp_path / "services/orders")
    assert [found.path for found in read_project_config(tmp_path).apps] == ["services/orders"]


@pytest.mark.parametrize(
    ("written", "version"), [("3.10", "3.10"), ("'3.10'", "3.10"), ("3.12", "3.12")]
)
def test_a_python_version_is_never_a_fraction(repository: Path, written: str, version: str) -> None:
    config = read(repository, f"apps: {{o: {{path: services/orders, python: {written}}}}}\n")
    assert config.apps[0].python == version


def test_an_account_with_leading_zeros_is_no_octal_number(repository: Path) -> None:
    config = read(repository, "stages: {dev: {account: 012345670123}}\n")
    assert config.stages[0].account == "012345670123"


def test_words_that_yaml_takes_for_truth_stay_words(repository: Path) -> None:
    config = read(repository, "stages: {on: {environment: yes}, no: {needs: on}}\n")
    assert [stage.name for stage in config.stages] == ["on", "no"]
    assert config.stages[0].environment == "yes"
    assert config.stages[1].needs == "on"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff", "~\n", "{}\n"])
def test_an_empty_file_is_as_good_as_none(repository: Path, text: str) -> None:
    config = read(repository, text)
    assert [found.path for found in config.apps] == ["services/billing", "services/orders"]
    assert config.stages == ()


@pytest.mark.parametrize("text", ["stages:\n  dev:\n", "stages:\n  dev: ~\n", "stages: {dev: {}}"])
def test_a_stage_without_settings_is_a_stage(repository: Path, text: str) -> None:
    assert read(repository, text).stages == (StageConfig(name="dev"),)


def test_a_byte_order_mark_is_fine(repository: Path) -> None:
    config = read(repository, b"\xef\xbb\xbfstages: {dev: {region: eu-west-1}}\r\n")
    assert config.places["stages.dev.region"].column == 24


def test_an_alias_may_stand_for_a_value(repository: Path) -> None:
    config = read(repository, "stages:\n  dev: &same {region: eu-west-1}\n  prod: *same\n")
    assert [stage.region for stage in config.stages] == ["eu-west-1", "eu-west-1"]


def test_letters_of_any_script_are_fine_where_names_are_free(repository: Path) -> None:
    text = 'stages: {dev: {environment: "Prüfung 検証", smoke: [{path: /, contains: "ação ✓"}]}}'
    assert read(repository, text).stages[0].environment == "Prüfung 検証"


@pytest.mark.parametrize(
    ("written", "seconds"), [("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_durations_have_units(repository: Path, written: str, seconds: int) -> None:
    config = read(repository, f"preview: {{like: dev, ttl: {written}}}\n")
    assert config.preview is not None
    assert config.preview.ttl_seconds == seconds


@pytest.mark.parametrize(
    ("written", "size"), [("50MB", 52_428_800), ("512 KB", 524_288), ("1GiB", 1_073_741_824)]
)
def test_sizes_have_units_of_1024_as_aws_counts(repository: Path, written: str, size: int) -> None:
    assert read(repository, f"package: {{max-size: {written}}}").package.max_size_bytes == size


def test_previews_may_be_like_a_stage_that_only_config_json_has(repository: Path) -> None:
    app(repository / "services/mail", "mail", ("dev", "preview"))
    config = read(repository, "stages: {dev: {}}\npreview: {like: preview}\n")
    assert config.preview == PreviewConfig(like="preview")


def test_stores_take_their_own_keys(repository: Path) -> None:
    text = "state: {store: s3, bucket: team-state, prefix: shop/orders}\n"
    expected = StateConfig(store="s3", bucket="team-state", prefix="shop/orders")
    assert read(repository, text).state == expected
    assert read(repository, "state: {store: local}\n").state.store == "local"
    assert read(repository, "state: {branch: source}\n").state.branch == "source"


def test_app_paths_come_in_their_normal_form(repository: Path) -> None:
    text = "apps: {a: {path: ./services//orders/}, b: {path: services/billing/}}\n"
    assert [found.path for found in read(repository, text).apps] == [
        "services/orders",
        "services/billing",
    ]


def test_an_app_without_path_is_at_the_root(tmp_path: Path) -> None:
    app(tmp_path)
    assert read(tmp_path, 'apps: {orders: {chalice: "1.34.0"}}\n').apps[0].path == "."


# --- bad files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_malformed_file_gets_all_its_findings_with_their_places(
    repository: Path, name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(repository, (MALFORMED / name).read_bytes())
    findings = caught.value.findings
    assert len(findings) == len(EXPECTED[name]["findings"])
    for finding, expected in zip(findings, EXPECTED[name]["findings"], strict=True):
        place, _, words = expected.partition(" ")
        assert f"chalice-ci.yml:{place}" == str(finding.at)
        assert words in finding.what
        assert finding.rule == "config"


def test_every_malformed_file_has_its_expectation() -> None:
    files = {path.name for path in MALFORMED.iterdir()}
    assert files == set(EXPECTED)
    assert len(files) >= 30


def test_the_error_lists_all_problems_and_exits_with_usage(repository: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(repository, (MALFORMED / "everything-at-once.yml").read_bytes())
    text = str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE
    assert text.startswith("chalice-ci.yml: 7 problems:\n")
    assert "chalice-ci.yml:3:24: Unknown key 'pyton' in `apps.orders`. Did you mean" in text
    assert len(text.splitlines()) == 8


def test_a_value_that_may_be_a_secret_is_never_shown(repository: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(repository, (MALFORMED / "secret-as-value.yml").read_bytes())
    assert "hunter2" not in str(caught.value)


def test_the_list_of_problems_is_bounded(repository: Path) -> None:
    text = "stages:\n  dev:\n" + "".join(f"    key{number}: x\n" for number in range(500))
    found = problems(repository, text)
    assert len(found) == MAX_FINDINGS + 1
    assert found[-1] == "chalice-ci.yml: And 400 more problems after these."


def test_a_link_that_leaves_the_repository_is_not_read(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.yml"
    outside.write_text("password: hunter2\n", encoding="utf-8")
    (repository / "chalice-ci.yml").symlink_to(outside)
    with pytest.raises(ConfigError) as caught:
        read_project_config(repository)
    assert "leaves the repository" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_link_within_the_repository_is_read(repository: Path) -> None:
    (repository / "ci.yml").write_text("stages: {dev: {}}\n", encoding="utf-8")
    (repository / "chalice-ci.yml").symlink_to("ci.yml")
    assert read_project_config(repository).stages == (StageConfig(name="dev"),)


def test_a_pipe_in_place_of_the_file_does_not_block(repository: Path) -> None:
    os.mkfifo(repository / "chalice-ci.yml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_project_config(repository)


def test_a_folder_in_place_of_the_file_is_refused(repository: Path) -> None:
    (repository / "chalice-ci.yml").mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        read_project_config(repository)


def test_a_dangling_link_is_a_finding_and_not_zero_configuration(repository: Path) -> None:
    (repository / "chalice-ci.yml").symlink_to("gone.yml")
    with pytest.raises(ConfigError, match="does not exist"):
        read_project_config(repository)


def test_the_other_suffix_is_explained(repository: Path) -> None:
    (repository / "chalice-ci.yaml").write_text("stages: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"must be called chalice-ci\.yml"):
        read_project_config(repository)


def test_a_named_file_must_exist(repository: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_project_config(repository, repository / "ci/other.yml")


def test_a_named_file_is_read_and_named_in_places(repository: Path) -> None:
    (repository / "ci").mkdir()
    (repository / "ci/other.yml").write_text("stages: {dev: {region: x}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_project_config(repository, repository / "ci/other.yml")
    assert str(caught.value.findings[0].at) == "ci/other.yml:1:24"


def test_a_path_that_is_a_link_out_of_the_repository_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "out").symlink_to(tmp_path.parent)
    found = problems(repository, "apps: {a: {path: out}}\n")
    assert found == [
        "chalice-ci.yml:1:18: `apps.a.path` is a link that leaves the repository: 'out'."
    ]


def test_a_path_that_is_a_file_is_no_folder(repository: Path) -> None:
    found = problems(repository, "apps: {a: {path: services/orders/app.py}}\n")
    assert "there is no folder 'services/orders/app.py'" in found[0]


@pytest.mark.parametrize("path", ["~/x", "C:/x", "x/../../y", "/", "a" * 999, "../" * 50])
def test_paths_that_are_no_folder_of_the_repository_are_refused(
    repository: Path, path: str
) -> None:
    assert len(problems(repository, f"apps: {{a: {{path: '{path}'}}}}\n")) == 1


@pytest.mark.parametrize(
    "name", ["a.b", "ä", "prod\u2060", "-x", "_x", "a/b", "a b", "$x", "x" * 65, "1 "]
)
def test_names_are_plain_words(repository: Path, name: str) -> None:
    assert problems(repository, f'stages: {{"{name}": {{}}}}\n')


# --- bombs and speed ------------------------------------------------------------------------------


def bombs() -> dict[str, str]:
    wide = "a: &a [" + "x," * 9 + "]\n"
    for index in range(25):
        this, before = chr(98 + index), chr(97 + index)
        wide += f"{this}: &{this} [" + f"*{before}," * 4 + "]\n"
    return {
        "aliases": wide,
        "brackets": "[" * MAX_BYTES,
        "braces": "{a: " * (MAX_BYTES // 4),
        "dashes": "- " * (MAX_BYTES // 2),
        "questions": "? " * (MAX_BYTES // 2),
        "commas": "[" + "x," * (MAX_BYTES // 2 - 2),
        "keys": "".join(f"k{number}:\n" for number in range(30_000)),
        "one line": "x" * (MAX_BYTES - 1),
        "quotes": '"' * (MAX_BYTES - 1),
        "blanks": " " * (MAX_BYTES - 1),
        "comments": "#\n" * (MAX_BYTES // 2 - 1),
        "line ends": "\n" * (MAX_BYTES - 1),
        "anchors": "".join(f"k{number}: &a{number} x\n" for number in range(13_000)),
        "exclamation marks": "!" * (MAX_BYTES - 1),
        "block text": "a: |\n" + "  x\n" * (MAX_BYTES // 4 - 4),
        "folded text": "a: >\n" + "  x\n" * (MAX_BYTES // 4 - 4),
        "escapes": '"' + "\\n" * (MAX_BYTES // 2 - 2),
        "zero width": "\u200b" * (MAX_BYTES // 3 - 1),
        "directives": "%YAML 1.1\n" * (MAX_BYTES // 10 - 1),
        "unknown stages": "stages:\n" + "".join(f"  s{n}: {{regoin: x}}\n" for n in range(11_000)),
        "needs": "stages:\n" + "".join(f"  s{n}: {{needs: s{n + 1}}}\n" for n in range(199)),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_bomb_ends_fast(repository: Path, name: str) -> None:
    text = bombs()[name]
    assert len(text.encode()) <= MAX_BYTES
    started = time.process_time()
    (repository / "chalice-ci.yml").write_text(text, encoding="utf-8")
    found = outcome(repository)
    if isinstance(found, ConfigError):
        assert len(found.findings) <= MAX_FINDINGS + 1
    assert time.process_time() - started < 5


def test_a_file_above_the_bound_is_refused_unread(repository: Path) -> None:
    assert problems(repository, "#" * (MAX_BYTES + 1)) == [
        "chalice-ci.yml:1:1: The file is larger than 256 KiB."
    ]


def test_the_time_to_read_grows_no_faster_than_the_file() -> None:
    def seconds(stages: int) -> float:
        text = "stages:\n" + "".join(
            f"  s{number}: {{deploy-on: {{branch: main}}, needs: s0}}\n" for number in range(stages)
        )
        started = time.process_time()
        assert read_yaml(text, "x")[0] is not None
        return time.process_time() - started

    seconds(100)
    small = min(seconds(200) for _ in range(3))
    large = min(seconds(1600) for _ in range(3))
    assert large < 8 * small * 3


def test_as_many_aliases_as_the_bound_are_read() -> None:
    text = "a: &a x\nb: [" + "*a, " * MAX_ALIASES + "]\n"
    node, found = read_yaml(text, "x")
    assert found == ()
    assert node is not None
    assert plain_data(node) == {"a": "x", "b": ["x"] * MAX_ALIASES}


# --- no file --------------------------------------------------------------------------------------


def test_without_a_file_the_root_is_the_app_called_as_in_config_json(tmp_path: Path) -> None:
    app(tmp_path, "my-orders", ("dev", "prod"))
    app(tmp_path / "tests/fixture", "other")
    config = read_project_config(tmp_path)
    assert config.file is None
    assert config.apps == (AppConfig(name="my-orders", path="."),)
    assert config.stages == ()
    assert config.preview is None


def test_without_a_file_every_folder_with_config_json_is_an_app(tmp_path: Path) -> None:
    app(tmp_path / "services/orders", "o")
    app(tmp_path / "billing", "b")
    for skipped in ("node_modules/x", ".git/x", "venv/x", "services/orders/nested", "vendor/x"):
        app(tmp_path / skipped)
    app(tmp_path / "python/lib/x")
    (tmp_path / "python/pyvenv.cfg").write_text("home = /usr/bin\n", encoding="utf-8")
    assert read_project_config(tmp_path).apps == (
        AppConfig(name="billing", path="billing"),
        AppConfig(name="orders", path="services/orders"),
    )


def test_folders_of_the_same_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    for path in ("orders/runtime", "billing/runtime", "mail/Runtime"):
        app(tmp_path / path)
    names = [found.name for found in read_project_config(tmp_path).apps]
    assert names == ["billing-runtime", "mail-Runtime", "orders-runtime"]


def test_a_bare_app_py_at_the_root_is_an_app_when_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("", encoding="utf-8")
    assert [found.path for found in read_project_config(tmp_path).apps] == ["."]
    app(tmp_path / "api")
    assert [found.path for found in read_project_config(tmp_path).apps] == ["api"]


def test_state_without_config_json_is_an_app_too(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests/apps/rest", tmp_path / "api")
    (tmp_path / "api/.chalice/config.json").unlink()
    assert read_project_config(tmp_path).apps == ()
    (tmp_path / "api/.chalice/deployed").mkdir()
    assert [found.path for found in read_project_config(tmp_path).apps] == ["api"]


def test_a_repository_without_apps_is_no_error_here(tmp_path: Path) -> None:
    assert read_project_config(tmp_path).apps == ()


def test_links_between_folders_are_not_followed(tmp_path: Path) -> None:
    app(tmp_path / "api")
    (tmp_path / "api-link").symlink_to("api")
    (tmp_path / "loop").symlink_to(".")
    assert [found.path for found in read_project_config(tmp_path).apps] == ["api"]


def test_odd_folder_names_become_plain_names(tmp_path: Path) -> None:
    app(tmp_path / "Größe & Co", "x")
    app(tmp_path / "日本", "y")
    names = {found.path: found.name for found in read_project_config(tmp_path).apps}
    assert names == {"Größe & Co": "Gr-e-Co", "日本": "app"}


def test_the_depth_of_the_search_is_bounded(tmp_path: Path) -> None:
    app(tmp_path / "/".join("abcdefghi"), "near")
    app(tmp_path / "/".join("klmnopqrstuv"), "far")
    assert [found.path for found in read_project_config(tmp_path).apps] == ["a/b/c/d/e/f/g/h/i"]


# --- the schema and the table ---------------------------------------------------------------------


def test_the_committed_schema_is_the_declaration() -> None:
    committed = (ROOT / "src/chalice_ci/schemas/chalice-ci.schema.json").read_text("utf-8")
    assert committed == schema_text(), "run: python -m chalice_ci.reference"


def test_the_schema_is_valid_and_accepts_the_good_example() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(yaml.safe_load(GOOD))) == []
    for text in ("stages:\n  dev:\n", "{}", "preview: {like: dev}", "version: 1"):
        assert validator.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_schema_rejects_what_a_schema_can_reject(name: str) -> None:
    expected = EXPECTED[name]["schema"]
    try:
        data = yaml.safe_load((MALFORMED / name).read_text("utf-8"))
    except (yaml.YAMLError, ValueError, OverflowError):
        assert expected == "unreadable"
        return
    valid = jsonschema.Draft202012Validator(json.loads(schema_text())).is_valid(data)
    assert ("accepts" if valid else "rejects") == expected


def test_the_table_of_the_documentation_is_the_declaration() -> None:
    document = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert markdown_table() in document


def test_every_key_is_documented_with_an_example_that_is_accepted(repository: Path) -> None:
    keys = dict(documented(FILE))
    assert len(keys) > 30
    for path, key in keys.items():
        assert key.summary.endswith(".")
        assert key.example, path
        assert key.required or key.default or path.count(".") or key.example
        node, found = read_yaml(key.example, path)
        assert node is not None
        assert found == ()


def test_the_example_of_the_documentation_is_good(repository: Path) -> None:
    document = (ROOT / "docs/configuration.md").read_text("utf-8")
    example = document.split("```yaml\n")[1].split("```")[0]
    assert read(repository, example).stages


# --- any bytes ------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *"{}[]|>#~@`'\"\\\t\r\n\u200b\x85",
        *("version", "apps", "stages", "dev", "needs", "preview", "like", "ttl", "state", "store"),
        *(
            "smoke",
            "null",
            "1",
            "pr-1",
            "../x",
            "é",
            ": ",
            "\n  ",
            "\n    ",
            "- ",
            ", ",
            "&a ",
            "*a",
        ),
        *("!!x ", "? ", "<<: ", "%YAML 1.9999\n", "---\n", "...\n", "<<<<<<< HEAD\n"),
        *("\\U00110000", "\\ud800"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    raw=st.binary(max_size=200) | st.lists(WORDS, max_size=40).map(lambda w: "".join(w).encode())
)
def test_arbitrary_bytes_are_a_configuration_or_a_config_error(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "any-bytes"
    root.mkdir(exist_ok=True)
    (root / "chalice-ci.yml").write_bytes(raw)
    found = outcome(root)
    if isinstance(found, ConfigError):
        assert found.findings
        for finding in found.findings:
            assert finding.at is not None
            assert f"{finding.what} {finding.fix}".isprintable()


TREES = st.recursive(
    st.sampled_from(["dev", "main", "", "1", "true", "x y"]) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [path.split(".")[-1] for path, _ in documented(FILE)] + ["dev", "prod"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(tree=TREES)
def test_any_tree_of_known_keys_is_read_as_written(
    tree: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(tree)
    node, found = read_yaml(text, "x")
    assert found == ()
    assert node is not None
    assert plain_data(node) == tree
    root = tmp_path_factory.getbasetemp() / "any-tree"
    root.mkdir(exist_ok=True)
    (root / "chalice-ci.yml").write_text(text, encoding="utf-8")
    found = outcome(root)
    assert isinstance(found, ProjectConfig) or found.findings


@given(text=st.text())
def test_shown_text_is_short_and_printable(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 63


@given(name=st.text(max_size=300))
def test_did_you_mean_never_fails(name: str) -> None:
    assert did_you_mean(name, ("stages", "apps")) in (
        "",
        " Did you mean 'stages'?",
        " Did you mean 'apps'?",
    )


# -- what an app is made of and what deploys it ----------------------------------------------------


def test_an_app_says_what_it_is_made_of_and_what_deploys_it(tmp_path: Path) -> None:
    (tmp_path / "services/orders").mkdir(parents=True)
    config = read(
        tmp_path,
        "apps:\n  orders:\n    path: services/orders\n"
        '    paths: [libs/common/**, "!**/*.md"]\n'
        '    deploy-on: {prod: {tag: "orders-v*"}}\n'
        "stages:\n  prod: {}\n",
    )
    (app,) = config.apps
    assert app.paths == ("libs/common/**", "!**/*.md")
    assert app.deploy_on == (("prod", DeployOn(tag="orders-v*")),)


@pytest.mark.parametrize("pattern", ["!", "/", "!/", "# note", "!docs/", "a\\", " ", "", "!!a"])
def test_a_pattern_that_would_mean_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"apps: {{web: {{paths: [{json.dumps(pattern)}]}}}}\n")
    assert "apps.web.paths" in str(caught.value)
    assert "!folder/**" in str(caught.value)


def test_a_ref_of_an_app_is_for_a_stage_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "apps: {web: {deploy-on: {prd: {branch: main}}}}\nstages: {prod: {}}\n")
    assert "did you mean 'prod'" in str(caught.value).lower()
    assert "chalice-ci.yml:1:" in str(caught.value)
