"""What is in the image, and what is not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from image.fixtures import REVISION, VERSION
from support.commandline import git, hello
from support.githttp import serving

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
PYTHON = "/opt/chalice-ci/bin/python"
PACKAGES = "/opt/chalice-ci/lib/python3.13/site-packages"


def inside(docker, image, *command, options=()):
    """What a command in the image prints."""
    entry, *arguments = command
    return docker.run("--network", "host", *options, "--entrypoint", entry, image, *arguments)


@pytest.mark.parametrize(("target", "limit"), [("action", 380), ("rehearsal", 480)])
def test_the_image_is_small(docker, images, measured, target, limit):
    size = int(docker.ask("image", "inspect", "--format", "{{.Size}}", getattr(images, target)))
    measured(f"size of {target}: {size / MEGABYTE:.0f} MB of {limit}")
    assert size <= limit * MEGABYTE


def test_labels_say_what_it_is(docker, images):
    said = docker.ask("image", "inspect", "--format", "{{json .Config.Labels}}", images.action)
    labels = json.loads(said)
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == "chalice-ci"
    assert labels[f"{prefix}licenses"] == "Apache-2.0"
    assert (labels[f"{prefix}version"], labels[f"{prefix}revision"]) == (VERSION, REVISION)


def test_nothing_of_the_build_is_left(docker, images):
    script = "for f in /build /bootstrap /root/.cache /var/lib/apt/lists/*; do ls -d $f; done; true"
    said = inside(docker, images.action, "bash", "-c", f"{{ {script}; }} 2>/dev/null")
    assert said == ""


def test_there_is_uv_and_no_pip(docker, images):
    assert inside(docker, images.action, "/opt/chalice-ci/bin/uv", "--version").startswith("uv 0.")
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('pip', 'ensurepip')])"
    for python in (PYTHON, "python3"):
        assert inside(docker, images.action, python, "-c", script).strip() == "[None, None]"
    assert inside(docker, images.action, "bash", "-c", "command -v pip pip3 || true") == ""


def test_the_package_is_installed_whole_and_not_editable(docker, images):
    """Every file of src/chalice_ci, data included, byte for byte."""
    script = (
        "import hashlib, json, pathlib, chalice_ci;"
        "root = pathlib.Path(chalice_ci.__file__).parent;"
        "print(json.dumps({p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes())"
        ".hexdigest() for p in root.rglob('*') if p.is_file() and p.suffix != '.pyc'}))"
    )
    there = json.loads(inside(docker, images.action, PYTHON, "-I", "-c", script))
    source = ROOT / "src" / "chalice_ci"
    here = {
        path.relative_to(source).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert there == here


def test_everything_is_compiled_and_stays_so(docker, images):
    """Without this, the first import of boto3 takes longer than everything else together."""
    script = (
        "import pathlib, sys, sysconfig;"
        f"roots = [pathlib.Path('{PACKAGES}', n) for n in ('chalice_ci', 'boto3', 'botocore',"
        " 'click', 'github', 'urllib3')] + [pathlib.Path(sysconfig.get_path('stdlib'), n)"
        " for n in ('json', 'asyncio', 'importlib')];"
        "files = [p for r in roots for p in r.rglob('*.py') if not"
        " {'sample', 'child'} & set(p.parts)];"
        "tag = f'.{sys.implementation.cache_tag}.pyc';"
        "missing = [str(p) for p in files if not (p.parent / '__pycache__' /"
        " (p.stem + tag)).exists()];"
        "print(len(files) > 300, missing)"
    )
    assert inside(docker, images.action, PYTHON, "-I", "-c", script).strip() == "True []"


def test_only_root_can_change_what_runs(docker, images):
    script = (
        "find /*.sh /opt /usr /etc ! -type l -perm /0022 -print;"
        "find /*.sh /opt /usr /etc ! -user root -print"
    )
    assert inside(docker, images.action, "bash", "-c", script) == ""


def test_git_does_what_the_state_needs(docker, images, tmp_path):
    """Fetch and push over HTTP, with a token; git's helper for HTTPS is the same program."""
    served = tmp_path / "served"
    seed = tmp_path / "seed"
    script = (
        "set -e; cd /tmp; git init -q w; cd w; git config user.name n; git config user.email e@x;"
        'git fetch -q "$ADDRESS" main; git reset -q --hard FETCH_HEAD; echo 2 > f; git add f;'
        "git commit -q -m Two; git -c http.extraHeader='Authorization: Bearer t0ken' push -q"
        ' "$ADDRESS" HEAD:refs/heads/chalice-state;'
        'git ls-remote "$ADDRESS" | cut -f 2; git gc -q; git fsck'
    )
    hello(seed)
    served.mkdir()
    git(seed, "clone", "--quiet", "--bare", str(seed), str(served / "repo.git"))
    git(served / "repo.git", "config", "http.receivepack", "true")
    with serving(served, environ=os.environ, token="t0ken") as address:
        said = inside(
            docker,
            images.action,
            *("bash", "-c", script),
            options=("-e", f"ADDRESS={address}/repo.git"),
        )
    assert "refs/heads/chalice-state" in said
    pushed = git(served / "repo.git", "rev-parse", "chalice-state~1")
    assert pushed == git(seed, "rev-parse", "HEAD")


def test_git_speaks_https(docker, images):
    said = inside(
        docker,
        images.action,
        *("bash", "-c", "git ls-remote https://127.0.0.1:9/x 2>&1 || true"),
    )
    assert "Failed to connect" in said or "Could not connect" in said


def test_the_rehearsal_image_deploys_the_demo(docker, images, warm):
    """`cfn-lint` is left out of it: nothing that the embedded AWS does here may need it."""
    said = docker.run(
        *(*warm, *docker.network, "--workdir", "/tmp", images.rehearsal, "demo"),
        seconds=240,
    )
    assert "200" in said
    assert "Traceback" not in said
