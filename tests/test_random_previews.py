"""Pull requests that are opened, pushed to and closed at random: nothing of them is left.

Events get lost, old runs are started again, teardowns fail, the limit is reached. `PREVIEW_PULLS`
says how many pull requests there are (`make test-deep`: 20), `PREVIEW_SEED` the order of things.
The usual seed has one of each: a lost event, a run that is started again, a teardown that fails.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import boto3
import pytest

from chalice_ci.local import EmbeddedAWS
from support.commandline import commit, git, write
from support.steps import event, pull_request
from test_previews import APP, Place

PULLS = int(os.environ.get("PREVIEW_PULLS", "3"))
SEED = int(os.environ.get("PREVIEW_SEED", "79"))
LIMIT = 2
YML = f"""version: 1
stages:
  dev: {{deploy-on: {{branch: main}}}}
preview: {{like: dev, limit: {LIMIT}}}
"""
MORE = "\n\n@app.lambda_function()\ndef more(event, context):\n    return {}\n"
DENIED = {
    "service": "lambda",
    "operation": "DeleteFunction",
    "status": 403,
    "code": "AccessDeniedException",
    "message": "not allowed",
}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start(gateway=False) as running:
        yield running


class Weeks:
    """Many pull requests of one repository, in an order that a seed decides."""

    def __init__(self, place, seed):
        self.place = place
        self.chance = random.Random(seed)
        self.open, self.seen, self.told = [], [], []
        self.counts = Counter()

    def opened(self):
        repository, name = self.place.repository, f"change-{len(self.seen)}"
        git(repository, "switch", "--quiet", "--create", name, "main")
        self._change(name)
        number = self.place.forge.create_pull_request(
            head_ref=name,
            head_sha=git(repository, "rev-parse", "HEAD"),
            base_sha=git(repository, "rev-parse", "main"),
        ).number
        self.open.append((number, name))
        self.seen.append(number)
        self._event("opened", number, name)

    def pushed(self):
        number, name = self.chance.choice(self.open)
        git(self.place.repository, "switch", "--quiet", name)
        self._change(name)
        head = git(self.place.repository, "rev-parse", "HEAD")
        self.place.forge.update_pull_request(number, head_sha=head)
        self._event("synchronize", number, name)

    def closed(self):
        number, name = self.open.pop(self.chance.randrange(len(self.open)))
        merged = self.chance.random() < 0.5
        self.place.forge.update_pull_request(number, is_open=False, merged=merged)
        fate = self.chance.random()
        if fate < 0.25:
            self.counts["lost"] += 1
            return
        if fate < 0.5 and f"hello-pr-{number}-work" in self.place.functions():
            self.counts["failing teardown"] += 1
            self.place.aws.order_faults([DENIED])
            self._event("closed", number, name, state="closed", codes=(12,))
            self.place.aws.order_faults([])
            return
        self._event("closed", number, name, state="closed")

    def again(self):
        """Somebody starts an old run again, whose pull request went on or is closed."""
        env = {**self.chance.choice(self.told), "GITHUB_RUN_ATTEMPT": "2"}
        self.counts["run again"] += 1
        self._ran(env)

    def swept(self):
        self.counts["sweep"] += 1
        done = self.place.run("preview", "sweep")
        assert done.code == 0, done.err

    def _change(self, name):
        extra = MORE if self.chance.random() < 0.4 else ""
        text = APP.replace("return {}", f"return {{'n': {self.chance.randrange(10**6)}}}")
        write(self.place.repository, {"app.py": text + extra})
        commit(self.place.repository, name)

    def _event(self, action, number, name, *, state="open", codes=(0,)):
        self.counts[action] += 1
        place = self.place
        place.runs += 1
        git(place.repository, "switch", "--quiet", name)
        pull = pull_request(place.repository, number=number, head=name, state=state)
        env = event(
            place.repository, place.folder, "pull_request", action=action, run=place.runs, pull=pull
        )
        self.told.append(env)
        self._ran(env, codes)

    def _ran(self, env, codes=(0,)):
        # Only the preview's tasks: `dev` is checked by other tests.
        stage = f"pr-{env['GITHUB_REF'].split('/')[2]}"
        done = self.place.run("run", "--stage", stage, **env)
        assert done.code in codes, done.err
        standing = {file.split("/pr-")[1].partition(".")[0] for file in self.place.records()}
        assert len(standing) <= LIMIT + self.counts["failing teardown"] + self.counts["lost"]


def test_nothing_is_left_of_pull_requests_that_come_and_go_at_random(aws, tmp_path, capsys):
    place = Place(aws, tmp_path, YML)
    weeks = Weeks(place, SEED)
    while len(weeks.seen) < PULLS or weeks.open:
        choices = []
        if len(weeks.seen) < PULLS:
            choices += [weeks.opened] * 3
        if weeks.open:
            choices += [weeks.pushed] * 2 + [weeks.closed] * 3
        if weeks.told:
            choices.append(weeks.again)
        if weeks.counts["lost"] + weeks.counts["failing teardown"]:
            choices.append(weeks.swept)
        weeks.chance.choice(choices)()
    weeks.swept()

    with capsys.disabled():
        print(f"\n{PULLS} pull requests, seed {SEED}: {dict(weeks.counts)}")
    assert place.functions() == []
    iam = boto3.Session("embedded", "embedded", region_name="us-east-1").client(
        "iam", endpoint_url=aws.endpoint_url
    )
    assert iam.list_roles()["Roles"] == []
    assert place.records() == []
    for number in weeks.seen:
        assert place.forge.deployments(f"pr-{number}") == ()
        assert place.forge.deployments(f"pr-{number}-hello") == ()
        assert len(place.forge.comments(number)) == 1, number
