"""What a pull request may do is decided by the commit that it would be merged into."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chalice_ci.base_policy import governed, read_base
from chalice_ci.checkout import GitReader
from chalice_ci.config import (
    AppConfig,
    ConfigError,
    ProjectConfig,
    StageConfig,
    read_committed_config,
)
from chalice_ci.context import PullRequest
from chalice_ci.errors import ForgeError, UsageError
from chalice_ci.findings import Place
from support.commandline import commit, git, write

BASE = """version: 1
apps:
  orders: {path: ., load: {network: true}}
stages:
  dev: {deploy-on: {branch: main}, account: "111111111111", region: eu-west-1}
  prod: {deploy-on: {tag: "v*"}, environment: production, needs: dev, allow-experimental: []}
preview: {like: dev, label: preview}
experimental: {allow: [WEBSOCKETS]}
state: {branch: records}
package: {max-size: 10MB}
"""


def config_of(text: str | None, file: str = "chalice-ci.yml") -> ProjectConfig:
    return read_committed_config(text, file)


def held(
    own: str | ProjectConfig, base: str | None = BASE, *, known: tuple[str, ...] = ("dev", "prod")
) -> tuple[ProjectConfig, str]:
    """The configuration that holds, and what is said about it."""
    mine = config_of(own) if isinstance(own, str) else own
    found = governed(mine, config_of(base, "main:chalice-ci.yml"), branch="main", known=known)
    return found.config, " ".join(found.notes)


def test_a_pull_request_that_changes_nothing_is_told_nothing() -> None:
    config, said = held(BASE)
    assert said == ""
    assert replace(config, places={}) == replace(config_of(BASE), places={})


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('deploy-on: {tag: "v*"}', 'deploy-on: {branch: "*"}', "stages.prod"),
        ("environment: production, ", "", "stages.prod"),
        ("needs: dev, ", "", "stages.prod"),
        ("allow-experimental: []", "allow-experimental: [WEBSOCKETS]", "stages.prod"),
        ("needs: dev, ", "needs: dev, allow-widened-iam: true, ", "stages.prod"),
        ("needs: dev, ", "needs: dev, allow-destructive: true, ", "stages.prod"),
        (', account: "111111111111"', ', account: "222222222222"', "stages.dev"),
        ("region: eu-west-1", "region: us-east-1", "stages.dev"),
        ("preview: {like: dev, label: preview}", "preview: {like: prod}", "preview"),
        ("preview: {like: dev, label: preview}\n", "", "preview"),
        ("experimental: {allow: [WEBSOCKETS]}\n", "", "experimental.allow"),
        ("state: {branch: records}", "state: {branch: main}", "state"),
        ("max-size: 10MB", "max-size: 200MB", "package"),
    ],
)
def test_rights_are_those_of_the_base_and_what_was_tried_is_said(
    old: str, new: str, key: str
) -> None:
    assert old in BASE
    config, said = held(BASE.replace(old, new))
    assert replace(config, places={}) == replace(config_of(BASE), places={})
    assert f"`{key}`" in said
    assert "decided by main" in said


def test_a_feature_that_only_the_pull_request_allows_is_not_allowed() -> None:
    none = "version: 1\nexperimental: {allow: []}\n"
    config, said = held("version: 1\nexperimental: {allow: [WEBSOCKETS]}\n", none)
    assert config.experimental_allow == ()
    assert config.places["experimental.allow"] == Place(
        file="main:chalice-ci.yml", line=2, column=23
    )
    assert "`experimental.allow`" in said


def test_a_pull_request_can_allow_less_and_its_own_line_says_so() -> None:
    config, said = held(BASE.replace("allow: [WEBSOCKETS]", "allow: []"))
    assert config.experimental_allow == ()
    assert config.places["experimental.allow"].file == "chalice-ci.yml"
    assert said == ""
    only, _ = held("version: 1\nexperimental: {allow: []}\n", None)
    assert (only.experimental_allow, "experimental.allow" in only.places) == ((), True)


def test_a_new_stage_is_checked_without_rights_of_its_own() -> None:
    new = BASE.replace(
        "preview:",
        "  qa: {deploy-on: {branch: '*'}, allow-experimental: [WEBSOCKETS], "
        "allow-destructive: true, allow-widened-iam: true}\npreview:",
        1,
    )
    config, said = held(new)
    assert config.stages[-1] == StageConfig(name="qa")
    assert "`stages.qa`" in said


def test_a_stage_that_was_taken_out_of_the_file_alone_stays_bound() -> None:
    line = BASE.splitlines(keepends=True)[5]
    assert line.startswith("  prod:")
    config, said = held(BASE.replace(line, ""))
    assert [stage.name for stage in config.stages] == ["dev", "prod"]
    assert "`stages.prod`" in said
    gone, _ = held(BASE.replace(line, ""), known=("dev",))
    assert [stage.name for stage in gone.stages] == ["dev"]


def test_the_network_is_for_apps_that_the_base_lets_use_it() -> None:
    mine = replace(
        config_of(BASE),
        apps=tuple(AppConfig(name=name, path=name, network=True) for name in ("orders", "users")),
    )
    config, said = held(mine)
    assert [(app.name, app.network) for app in config.apps] == [("orders", True), ("users", False)]
    assert "`apps.users.load`" in said


def test_a_base_without_a_file_gives_no_preview_and_keeps_the_state_where_it_is() -> None:
    config, said = held(BASE, None)
    assert (config.preview, config.state) == (None, ProjectConfig().state)
    assert [(stage.name, stage.deploy_on) for stage in config.stages] == [
        ("dev", None),
        ("prod", None),
    ]
    assert "`preview`" in said


def test_places_say_whose_file_they_are_in() -> None:
    config, _ = held(BASE.replace("max-size: 10MB", "max-size: 9MB"))
    assert config.places["stages.dev.region"].file == "main:chalice-ci.yml"
    assert config.places["apps.orders.path"].file == "chalice-ci.yml"


# -- where the base is read from -------------------------------------------------------------------


@dataclass(frozen=True)
class Forge:
    """A forge that has this file, or refuses."""

    text: str | None = None
    refuses: bool = False

    def file(self, path: str, *, branch: str, commit: str) -> str | None:
        if self.refuses:
            raise ForgeError("not today.", where="GitHub")
        assert (path, branch) == ("chalice-ci.yml", "main")
        return self.text


def reader(folder: Path) -> GitReader:
    def read(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    return read


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    write(folder, {"chalice-ci.yml": BASE})
    commit(folder)
    git(folder, "switch", "--quiet", "--create", "feature")
    write(folder, {"chalice-ci.yml": "version: 1\n"})
    commit(folder)
    return folder


def pull_of(repository: Path, base: str = "main") -> PullRequest:
    return PullRequest(
        number=1,
        head_sha=git(repository, "rev-parse", "feature"),
        base_sha=git(repository, "rev-parse", base) if base else "f" * 40,
        head_branch="feature",
        base_branch="main",
        fork=False,
    )


OWN = ProjectConfig(file="chalice-ci.yml")


def test_the_forge_is_asked_first_and_git_when_it_refuses(repository: Path) -> None:
    pull = pull_of(repository)
    read = reader(repository)
    assert read_base(OWN, pull, files=Forge("version: 1\n"), git=read).stages == ()
    assert read_base(OWN, pull, files=Forge(None), git=read).file is None
    assert len(read_base(OWN, pull, files=Forge(refuses=True), git=read).stages) == 2
    with pytest.raises(ForgeError, match="not today"):
        read_base(OWN, pull_of(repository, ""), files=Forge(refuses=True), git=read)


def test_of_a_merge_that_the_forge_made_the_first_parent_is_the_base(repository: Path) -> None:
    pull = pull_of(repository)
    git(repository, "switch", "--quiet", "main")
    write(repository, {"chalice-ci.yml": "version: 1\npreview: {like: dev}\n"})
    commit(repository)
    git(repository, "merge", "--quiet", "--no-ff", "-X", "theirs", "-m", "merge", "feature")
    # What the event says is older than what the branch would be merged into.
    found = read_base(OWN, pull, files=None, git=reader(repository))
    assert found.preview is not None
    assert found.stages == ()
    # A merge that the pull request itself brought proves nothing.
    own = replace(pull, head_sha=git(repository, "rev-parse", "HEAD"))
    assert len(read_base(OWN, own, files=None, git=reader(repository)).stages) == 2


def test_a_shallow_checkout_without_a_token_is_refused_with_both_ways_out(
    repository: Path, tmp_path: Path
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", str(shallow))
    with pytest.raises(UsageError) as refused:
        read_base(OWN, pull_of(repository), files=None, git=reader(shallow))
    assert "was not fetched, and there is no token" in refused.value.what
    assert "fetch-depth: 0" in refused.value.fix
    assert "contents: read" in refused.value.fix
    with pytest.raises(UsageError):
        read_base(OWN, pull_of(repository), files=None, git=None)


def test_where_the_event_names_no_base_it_is_the_branch_as_it_was_fetched(
    repository: Path,
) -> None:
    """CircleCI, Jenkins, Azure and others tell the branch, and not its commit."""
    untold = replace(pull_of(repository), base_sha="")
    with pytest.raises(UsageError) as refused:
        read_base(OWN, untold, files=None, git=reader(repository))
    assert "the branch main was not fetched" in refused.value.what
    assert "git fetch origin main:refs/remotes/origin/main" in refused.value.fix
    git(repository, "update-ref", "refs/remotes/origin/main", "main")
    assert len(read_base(OWN, untold, files=None, git=reader(repository)).stages) == 2
    # What the event says is not put aside for what was fetched.
    git(repository, "update-ref", "refs/remotes/origin/main", "feature")
    assert len(read_base(OWN, pull_of(repository), files=None, git=reader(repository)).stages) == 2


def test_a_broken_file_of_the_base_is_named_as_the_bases() -> None:
    pull = PullRequest(
        number=1,
        head_sha="a" * 40,
        base_sha="b" * 40,
        head_branch="feature",
        base_branch="main",
        fork=True,
    )
    with pytest.raises(ConfigError) as broken:
        read_base(OWN, pull, files=Forge("version: 1\nstagse: {}\n"), git=None)
    assert "main:chalice-ci.yml:2:1" in broken.value.what
    assert broken.value.fix.startswith("Mend it on main first")


@pytest.mark.parametrize("text", ["[]", "- a\n", "version: 1\nversion: 1\n", "\t", "version: 9\n"])
def test_a_base_that_is_no_configuration_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        config_of(text, "main:chalice-ci.yml")


def test_needs_and_stores_are_checked_in_the_base_too() -> None:
    with pytest.raises(ConfigError) as wrong:
        config_of("version: 1\nstages: {a: {needs: b}}\nstate: {store: s3}\n", "main:c.yml")
    assert len(wrong.value.findings) == 2
