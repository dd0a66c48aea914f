"""A deployer for a job, and who its credentials are."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from threading import Thread

from chalice_ci.app.deployer import Deployer, Identity
from chalice_ci.app.environment import make_deployer_environment
from chalice_ci.app.pythons import Interpreter
from chalice_ci.ownership import check_place
from chalice_ci.route import Job
from chalice_ci.run import Run


def lent_deployer(
    run: Run,
    job: Job,
    chalice: str,
    *,
    region: str | None = None,
    interpreter: Interpreter | None = None,
) -> AbstractContextManager[Deployer]:
    """A deployer for the job, in the environment of that Chalice."""
    python = make_deployer_environment(
        chalice,
        cache_dir=run.cache_dir,
        environ=run.world.env,
        interpreter=interpreter,
        running=run.world.python,
    )
    return run.deployers.lent(
        python,
        region or run.region(job),
        run.access_of(job),
        renew=lambda: run.access_of(job) or {},
    )


def identified(run: Run, job: Job, deployer: Deployer) -> Identity:
    """Who the credentials are; WrongAccount when the stage is another account's or region's."""
    identity = deployer.identify()
    if run.cloud is None:
        check_place(identity, account=run.account(job), region=run.region(job), where=job.name)
    return identity


def prepare_guard(run: Run, job: Job, identity: Identity) -> None:
    """Make the guard's clients while the deployer plans: this process only waits for it."""

    def make() -> None:
        # Whatever is wrong with them is told when they are needed.
        with contextlib.suppress(Exception):
            clients = run.clients_for(job, identity.region)
            for service in ("lambda", "iam"):
                clients(service)

    Thread(target=make, name="guard's clients", daemon=True).start()
