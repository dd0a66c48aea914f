"""What the image brings, so that the first check of a small app fetches and makes nothing."""

from __future__ import annotations

import json

from image.runner import Job
from support.commandline import hello

BROUGHT = "/opt/chalice-ci/share/chalice-ci"
NOWHERE = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_TIMEOUT": "2"}
# What a container keeps is gone with it, so the folder is in the workspace here.
KEPT = {"command": "check", "cache-dir": "kept"}


def environments(job: Job) -> list[str]:
    folder = job.workspace / "kept" / "environments"
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def test_a_small_app_is_checked_without_an_index_and_nothing_is_made(small, images):
    ended = small.run(images.action, inputs=KEPT, env=NOWHERE)
    assert ended.code == 0, ended.said
    assert environments(small) == []
    results = json.loads((small.workspace / "chalice-ci-out" / "report.json").read_text("utf-8"))
    assert {result["isolation"]["level"] for result in results["results"]} == {"full"}


def test_what_an_app_needs_besides_stands_on_what_the_image_brings(job, images):
    hello(job.workspace, **{"requirements.txt": "six==1.16.0\n"})
    job.give(job.workspace)
    ended = job.run(images.action, inputs=KEPT)
    assert ended.code == 0, ended.said
    (made,) = environments(job)
    folder = job.workspace / "kept" / "environments" / made
    (below,) = json.loads((folder / "chalice-ci.json").read_text("utf-8"))["stands on"]
    assert below.startswith(f"{BROUGHT}/environments/")
    packages = {path.name for path in folder.glob("lib/python3.13/site-packages/*")}
    assert "six.py" in packages
    assert not {"boto3", "botocore", "chalice"} & packages


def test_equal_files_of_what_is_brought_are_one_file(docker, images):
    """Else each further environment would cost what the first one does."""
    script = (
        "import collections, pathlib;"
        f"files = pathlib.Path('{BROUGHT}').glob('environments/*/lib/python3.13/site-packages/'"
        "'botocore/**/*.*');"
        "links = collections.Counter((p.stat().st_ino, p.stat().st_nlink) for p in files"
        " if p.is_file() and p.stat().st_size);"
        "print(len(links) > 500, {number >= 6 for _, number in links})"
    )
    arguments = ("--entrypoint", "/opt/chalice-ci/bin/python", images.action, "-I", "-c", script)
    assert docker.run("--network", "host", *arguments).strip() == "True {True}"
