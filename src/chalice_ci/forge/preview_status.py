"""Previews where a forge has no deployments that could be made: a status says how each ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from chalice_ci.context import RunOrder
from chalice_ci.forge.port import Deployment, DeploymentState, Removed, checked_environment


class PreviewStatuses(ABC):
    """The deployments of a forge, told as statuses that take each other's place."""

    @abstractmethod
    def _tell(self, deployment: Deployment, url: str, description: str) -> None:
        """Set the status of an environment; `url` is where it leads, empty for nowhere."""

    def start_deployment(
        self,
        *,
        environment: str,
        sha: str,
        run: RunOrder,
        transient: bool = True,
        fresh: bool = False,
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """A status that says that it goes on; a commit has one for each environment."""
        del fresh
        deployment = Deployment(
            id=run.id,
            environment=checked_environment(environment),
            sha=sha,
            run=run,
            transient=transient,
            state=DeploymentState.IN_PROGRESS,
        )
        self._tell(deployment, log_url, description)
        return deployment

    def finish_deployment(
        self,
        deployment: Deployment,
        state: DeploymentState,
        *,
        url: str = "",
        log_url: str = "",
        description: str = "",
    ) -> Deployment:
        """The status with how it ended, and the preview's address."""
        ended = replace(deployment, state=state, url=url)
        self._tell(ended, url or log_url, description)
        return ended

    def deployments(self, environment: str) -> tuple[Deployment, ...]:
        """None: a status is found by its commit only, and the forge's own are not ours."""
        checked_environment(environment)
        return ()

    def remove_environment(self, environment: str) -> Removed:
        """Statuses stay with their commits, as the builds that they tell of do."""
        checked_environment(environment)
        return Removed(deployments=0, environment=True)
