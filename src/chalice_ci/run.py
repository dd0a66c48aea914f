"""One run: the surroundings, the configuration and the places that every verb works with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chalice_ci.checkout import Checkout, GitReader, changed_files
from chalice_ci.config import AppConfig, ProjectConfig
from chalice_ci.errors import UsageError
from chalice_ci.inputs import (
    ALLOWED_ACCOUNT,
    AWS_REGION,
    GATEWAY_URL,
    PLAN,
    PREVIOUS_SIGNING_KEY,
    ROLE_DURATION,
    ROLE_SESSION_NAME,
    ROLE_TO_ASSUME,
    Value,
)
from chalice_ci.report.report import URL
from chalice_ci.route import Job
from chalice_ci.scene import Scene

_KINDS = {"rest_api": "rest", "websocket_api": "websocket"}


if TYPE_CHECKING:
    from chalice_ci.app.deployers import Deployers
    from chalice_ci.aws_access import Access, Role
    from chalice_ci.base_policy import Branches
    from chalice_ci.forge.local import LocalForge
    from chalice_ci.ownership import Clients
    from chalice_ci.signing import SigningKey
    from chalice_ci.state.select import Records
    from chalice_ci.state.urls import StageUrl


class Cloud(Protocol):
    """The embedded AWS, as far as a run needs it."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The `AWS_*` variables that lead there."""

    def local_url_of(self, execute_api_url: str) -> str:
        """Where the gateway serves a URL of API Gateway."""


@dataclass(frozen=True, kw_only=True)
class Run(Scene):
    """What the verbs share. `work_dir` ends with the run, `opening` finds the recorded states in an
    environment that has the credentials for them.

    What not every verb needs is imported by who needs it.
    """

    checkout: Checkout
    config: ProjectConfig
    opening: Callable[[Mapping[str, str]], Records]
    cache_dir: Path
    work_dir: Path
    approvals: LocalForge | None = None
    branches: Branches | None = None
    git: GitReader | None = None
    notes: tuple[str, ...] = ()
    """What of the configuration does not hold yet, in sentences."""
    cloud: Cloud | None = None

    @property
    def root(self) -> Path:
        """The repository's root."""
        return self.checkout.root

    @property
    def aws_environ(self) -> Mapping[str, str]:
        """The environment in which AWS is reached: the embedded one's, or the caller's."""
        if self.cloud is None:
            return self.world.env
        kept = {k: v for k, v in self.world.env.items() if not k.startswith("AWS_")}
        return {**kept, **self.cloud.environ}

    @cached_property
    def records(self) -> Records:
        """The recorded states."""
        return self.opening(self._store_environ)

    @property
    def _store_environ(self) -> Mapping[str, str]:
        """Where the record is read: all stages have one, so only the input names a role for it."""
        role = None
        if self.config.state.store == "s3":
            role = self._role(self.inputs.value(ROLE_TO_ASSUME))
        if role is None:
            return self.world.env
        return self._access.environ(role, account=None, region=self.world.region)

    @cached_property
    def deployers(self) -> Deployers:
        """The processes with AWS credentials; `close` ends them."""
        from chalice_ci.app.deployers import Deployers

        return Deployers(self.aws_environ, self.work_dir)

    def role(self, job: Job) -> Role | None:
        """The role that the job's stage is deployed with; None: whoever the environment is."""
        configured = job.policy.role if job.policy else None
        return self._role(
            self.inputs.prefer(ROLE_TO_ASSUME, configured, f"stages.{job.stage}.role")
        )

    def _role(self, value: Value) -> Role | None:
        if not value.text or self.cloud is not None:
            return None
        if not self.context.trusted:
            raise UsageError(
                f"no role is assumed in this run: {self.context.trust}",
                where=value.detail,
                fix="Use `command: run`, which checks such a pull request and leaves the rest.",
            )
        # Late: botocore is only for verbs that reach AWS.
        from chalice_ci.aws_access import Role, session_name

        text = self.inputs.text(ROLE_DURATION)
        number = self.context.run.id if self.context.run else 0
        usual = f"chalice-ci-{self.context.repository.rpartition('/')[2]}-{number or 'local'}"
        return Role(
            arn=value.text,
            session=session_name(self.inputs.text(ROLE_SESSION_NAME) or usual),
            seconds=int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0,
            where=value.detail,
        )

    def account(self, job: Job) -> str | None:
        """The only account that the job may touch."""
        configured = job.policy.account if job.policy else None
        place = f"stages.{job.stage}.account"
        return self.inputs.prefer(ALLOWED_ACCOUNT, configured, place).text or None

    def access_of(self, job: Job) -> Mapping[str, str] | None:
        """The environment with the credentials of the job's role; None where it has none.

        Raises WrongAccount and AWSError.
        """
        role = self.role(job)
        if role is None:
            return None
        return self._access.environ(role, account=self.account(job), region=self.region(job))

    def clients_for(self, job: Job, region: str) -> Clients:
        """Makes the boto3 clients of a region with the credentials of the job's stage."""
        if self.role(job) is None:
            return self.clients(region)
        # Asked for each: a deployment may last longer than the credentials that it began with.

        def client(service: str) -> object:
            return self._clients_of_role(job, region)(service)

        return client

    def _clients_of_role(self, job: Job, region: str) -> Clients:
        environ = self.access_of(job)
        assert environ is not None
        key = (environ["AWS_ACCESS_KEY_ID"], region)
        if key not in self._clients_of_roles:
            # Late: boto3 is only for verbs that reach AWS.
            from chalice_ci.ownership import clients_of

            self._clients_of_roles[key] = clients_of(environ, region)
        return self._clients_of_roles[key]

    @cached_property
    def _clients_of_roles(self) -> dict[tuple[str, str], Clients]:
        return {}

    @cached_property
    def _access(self) -> Access:
        from chalice_ci.aws_access import Access

        return Access(
            self.world.env,
            now=self.world.now,
            sleep=self.world.sleep,
            hide=self.hide,
            say=self.progress.say,
        )

    def close(self) -> None:
        """End what was started for the whole run."""
        if "deployers" in vars(self):
            self.deployers.close()

    @cached_property
    def clients(self) -> Callable[[str], Clients]:
        """Makes the boto3 clients of a region, once in a run: to read their models is slow."""
        # Late: boto3 is only for verbs that reach AWS.
        from chalice_ci.ownership import clients_of

        return cache(partial(clients_of, self.aws_environ))

    @cached_property
    def signing_key(self) -> SigningKey | None:
        """The key that plans are sealed with, if there is one."""
        from chalice_ci.signing import signing_key

        return signing_key(self.inputs)

    @cached_property
    def previous_signing_key(self) -> SigningKey | None:
        """The key before it, whose plans are still opened."""
        from chalice_ci.signing import signing_key

        return signing_key(self.inputs, PREVIOUS_SIGNING_KEY)

    @cached_property
    def written_commits(self) -> dict[str, Path]:
        """Folders with the files of other commits, by the commit: one serves all apps and stages.

        They end with `work_dir`.
        """
        return {}

    @cached_property
    def missing_submodules(self) -> dict[str, tuple[str, ...]]:
        """The submodules that those folders are without."""
        return {}

    @property
    def plan_file(self) -> Path | None:
        """The plan that was asked for, absolute."""
        path = self.inputs.path(PLAN)
        return None if path is None else self.world.cwd / path

    @property
    def run_url(self) -> str:
        """The address of the CI run, for the record; empty elsewhere."""
        return self.context.run_url

    @property
    def _gateway(self) -> Callable[[str], str] | None:
        """What maps a URL of API Gateway to where an emulator serves it."""
        if self.cloud is not None:
            return self.cloud.local_url_of
        given = self.inputs.text(GATEWAY_URL)
        if not given:
            return None
        # Late: only for rehearsals.
        from chalice_ci.local.aws import Endpoint

        served = Endpoint(endpoint_url="", gateway_url=given.rstrip("/"), region="")
        return served.local_url_of

    def region(self, job: Job) -> str | None:
        """The stage's region: input, chalice-ci.yml, environment; None leaves it to the profile."""
        configured = job.policy.region if job.policy else None
        chosen = self.inputs.prefer(AWS_REGION, configured, f"stages.{job.stage}.region").text
        if chosen:
            return chosen
        if self.cloud is not None:
            return self.cloud.environ["AWS_DEFAULT_REGION"]
        return self.world.region

    def package_bucket(self, job: Job) -> str | None:
        """Where the stage's packages are uploaded to; a preview takes that of its model."""
        stages = {stage.name: stage.package_bucket for stage in self.config.stages}
        return stages.get(job.like or job.stage)

    def urls(self, found: tuple[StageUrl, ...]) -> tuple[URL, ...]:
        """A stage's addresses for the report; on the embedded AWS those that really answer."""
        told = []
        for url in found:
            kind = _KINDS.get(url.name, "domain")
            address = url.url
            if kind == "rest" and self._gateway is not None:
                address = self._gateway(url.url)
            told.append(URL(kind=kind, address=address))
        return tuple(told)

    def changed_files(self, app: AppConfig) -> tuple[str, ...]:
        """Files of an app whose bytes are not those of the commit that is checked out."""
        return () if self.git is None else changed_files(self.checkout, self.git, app.path)

    def config_digest(self, app: AppConfig) -> str:
        """A digest of the files that decide how the app is deployed.

        chalice-ci.yml, and everything in `.chalice/` that is read for a deployment: config.json
        and policy files.
        """
        from chalice_ci.plan import digest_of

        chalice = self.checkout.root / app.path / ".chalice"
        files = [*sorted(chalice.glob("*.json"))]
        if self.config.file is not None:
            files.insert(0, self.checkout.root / self.config.file)
        digests = {
            file.relative_to(self.checkout.root).as_posix(): hashlib.sha256(
                file.read_bytes()
            ).hexdigest()
            for file in files
            # The record of Chalice before 1.2 is no configuration.
            if file.is_file() and file.name != "deployed.json"
        }
        return digest_of(digests)
