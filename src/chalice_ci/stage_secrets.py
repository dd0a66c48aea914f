"""The secrets of one stage in a run: what it needs, what an app may see, what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from chalice_ci.ci_secrets import (
    PREFIX,
    SHORTEST_AT_LOAD,
    SecretVariable,
    refuse_elsewhere,
    refuse_missing,
    variables_of,
)
from chalice_ci.errors import UsageError
from chalice_ci.route import Job
from chalice_ci.run import Run

if TYPE_CHECKING:
    from chalice_ci.graph import Loaded
    from chalice_ci.snapshot_of import SnapshotSecrets


def secret_variables(job: Job) -> tuple[SecretVariable, ...]:
    """The variables that the job's stage takes from secrets."""
    return () if job.policy is None else variables_of(job.policy.environment_variables)


def place_of(run: Run, job: Job) -> str:
    """Where the configuration asks for them."""
    place = run.config.places.get(f"stages.{job.stage}.environment-variables")
    return str(place or run.config.file or job.name)


def refuse_without_secrets(run: Run, job: Job, wanted: Iterable[SecretVariable]) -> None:
    """Raise UsageError unless every secret is here that is going to be deployed."""
    refuse_missing(run.secrets.missing(wanted), where=place_of(run, job))


def shown_at_load(run: Run, job: Job) -> Mapping[str, str]:
    """The values that the stage's app may have while it is loaded, by secret.

    Raises UsageError for one that is too short to be taken out of what the app says.
    """
    refs = job.policy.environment_variables if job.policy else ()
    found = {}
    for name, ref in refs:
        value = run.secrets.values.get(ref.name)
        if not ref.at_load or value is None:
            continue
        if len(value) < SHORTEST_AT_LOAD:
            raise UsageError(
                f"the secret {ref.name} has fewer than {SHORTEST_AT_LOAD} characters: it could "
                "not be told from other text in what the app says.",
                where=place_of(run, job),
                fix=f"Remove `at-load` from {name}, or take a longer value for {PREFIX}{ref.name}.",
            )
        found[ref.name] = value
    return found


def snapshot_secrets(run: Run, job: Job) -> SnapshotSecrets:
    """What the stage's snapshot says of its secrets: digests where the signing key is here."""
    # Late: it is asked for when the app was loaded.
    from chalice_ci.snapshot_of import SnapshotSecrets

    variables = secret_variables(job)
    key = run.signing_key
    if key is None:
        return SnapshotSecrets(variables=variables)

    def digest(function: str, variable: str, secret: str) -> str:
        value = run.secrets.values.get(secret)
        scope = (job.app.name, job.stage, function, variable)
        return "" if value is None else key.digest(value, scope=scope)

    return SnapshotSecrets(variables=variables, digest=digest)


def refuse_misplaced(run: Run, job: Job, loaded: Loaded) -> None:
    """Raise UsageError when a secret would be deployed anywhere else than as its variable."""
    refuse_elsewhere(
        loaded.graph,
        secret_variables(job),
        functions=(function.name for function in loaded.graph.functions),
        where=place_of(run, job),
    )
