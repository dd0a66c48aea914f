"""From an app in a checkout to a built stage: versions, environment, package, load, check.

What the app did wrong becomes findings; what stands against building at all raises. What is only
needed once the app is loaded is imported while it is being loaded (`_AFTERWARDS`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.app.client import LoadRequest, LoadResult, SecretAtLoad, load_app
from chalice_ci.app.environment import (
    genuine_chalice,
    make_app_environment,
    make_packager_environment,
)
from chalice_ci.app.pythons import Interpreter
from chalice_ci.app.versions import Versions, resolve_app_versions
from chalice_ci.chalice_config import ChaliceConfig, check_chalice_config, read_chalice_config
from chalice_ci.config import AppConfig
from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Place, Severity, in_order
from chalice_ci.inputs import ALLOW_UNSANDBOXED, PROMOTE, PYTHON_PATH, SNAPSHOT_KEY
from chalice_ci.package.index import with_index
from chalice_ci.package.variables import Variables
from chalice_ci.report import report as model
from chalice_ci.report.report import Failure, Result
from chalice_ci.route import Job
from chalice_ci.run import Run
from chalice_ci.stage_secrets import (
    refuse_misplaced,
    secret_variables,
    shown_at_load,
    snapshot_secrets,
)
from chalice_ci.uv import find_uv

if TYPE_CHECKING:
    from chalice_ci.app.deployer import PackageFile
    from chalice_ci.graph import Loaded
    from chalice_ci.package.build import Package
    from chalice_ci.package.foreign import Packager
    from chalice_ci.package.source import Builder
    from chalice_ci.snapshot import Snapshot
    from chalice_ci.snapshot_of import SnapshotSecrets
    from chalice_ci.template import TemplateRequest
    from chalice_ci.upgrade.facts import AppFacts

FALLBACK_REGION = "us-east-1"
"""Where nothing names a region: boto3 clients at import need one, and nothing is called."""

_AFTERWARDS = (
    *("app.answer", "check", "source", "upgrade.findings", "upgrade.reading"),
    *("snapshot_of", "snapshot_document", "contents", "outputs"),
    *("report.document", "report.html", "report.terminal"),
)
_RULES = ("CloudWatchEvent", "ScheduledEvent")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A stage that was loaded and packaged; `result` holds what is known so far."""

    job: Job
    result: Result
    loaded: Loaded
    app_name: str
    package: Package
    interpreter: Interpreter
    snapshot_key: str = field(default="", repr=False)
    snapshot_secrets: SnapshotSecrets | None = field(default=None, repr=False)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The stage in the normal form that is compared and recorded."""
        from chalice_ci.snapshot_of import SnapshotSecrets, make_snapshot

        return make_snapshot(
            self.loaded,
            self.package.manifest,
            sizes={archive.slot: archive.size for archive in self.package.archives},
            app=self.job.app.name,
            key=self.snapshot_key,
            secrets=self.snapshot_secrets or SnapshotSecrets(),
        )

    @property
    def packages(self) -> Mapping[str, PackageFile]:
        """The archives by slot, as the graph uses them."""
        from chalice_ci.app.deployer import PackageFile

        used = {str(r.fields["filename"]) for r in self.loaded.graph.of_type("DeploymentPackage")}
        return {
            archive.slot: PackageFile(path=archive.path, sha256=archive.sha256)
            for archive in self.package.archives
            if archive.slot in used
        }


def known_stages(run: Run) -> Mapping[str, tuple[str, ...]]:
    """The stages of each app's config.json, by the app's name."""
    return {
        app.name: () if (config := _settings(run, app)) is None else config.stages
        for app in run.config.apps
    }


def app_name_of(run: Run, app: AppConfig) -> str | None:
    """The name in config.json, None when there is none to be read."""
    config = _settings(run, app)
    return None if config is None else config.app_name


def build(
    run: Run,
    job: Job,
    *,
    template: TemplateRequest | None = None,
    alone: bool = True,
    resolved: Callable[[Versions], None] = lambda _: None,
) -> Built | Result:
    """Build one stage: a `Built`, or the result that says why it did not get that far.

    `template` asks for one as well, `alone` is false when `check_built` will look at the app's
    config.json for all its stages. `resolved` is told the versions before the long part begins.
    Raises PackageError for what cannot be packaged and LoadError where the app must not be loaded.
    """
    base = Result(
        app=job.app.name, stage=job.stage, path=job.app.path, preview=job.like is not None
    )
    app_dir = _app_dir(run, job.app)
    config, findings = read_chalice_config(app_dir, repo_root=run.checkout.root)
    if config is None:
        return replace(base, findings=findings)
    versions = resolve_app_versions(
        app_dir,
        app=job.app,
        repo_root=run.checkout.root,
        python_path=_python_path(run),
        running=run.world.python,
        environ=run.world.env,
        cache_dir=run.cache_dir,
        log=run.progress.of(job.name),
        variables=Variables(servers=dict(run.config.package.variables), environ=run.world.env),
    )
    if not isinstance(versions, Versions):
        result: Built | Result = replace(base, findings=(*findings, *versions))
    else:
        base = replace(base, chalice=versions.chalice, python=versions.python)
        resolved(versions)
        building = _Building(run=run, job=job, config=config, versions=versions, base=base)
        result = building.built((*findings, *versions.findings), template=template)
    if not alone:
        return result
    return _adding(result, _config_findings(run, job.app, config, (result,)))


def check_built(run: Run, built: Iterable[Built | Result]) -> tuple[Result, ...]:
    """The results of `check`, with what is true of an app or of several stages together."""
    from chalice_ci.check import Checked, check_together

    stages = tuple(built)
    settings = {app.name: config for app in run.config.apps if (config := _settings(run, app))}
    loaded = tuple(one for one in stages if isinstance(one, Built))
    shared = check_together(
        (Checked(app=one.job.app.name, stage=one.job.stage, loaded=one.loaded) for one in loaded),
        config=run.config,
        settings=settings,
    )
    own = tuple(
        replace(finding, app=app.name)
        for app in run.config.apps
        if app.name in settings
        for finding in _config_findings(
            run, app, settings[app.name], tuple(s for s in stages if _result(s).app == app.name)
        )
    )
    return tuple(_distributed([_result(stage) for stage in stages], (*shared, *own)))


def _distributed(results: list[Result], findings: tuple[Finding, ...]) -> Iterator[Result]:
    """Give findings to their stages; those of an app as a whole stand under its first stage, errors
    under each.
    """
    seen: set[str] = set()
    for result in results:
        first = result.app not in seen
        seen.add(result.app)
        own = (
            finding
            for finding in findings
            if finding.app == result.app
            and (
                finding.stage == result.stage
                or (not finding.stage and (first or finding.severity is Severity.ERROR))
            )
        )
        yield replace(result, findings=in_order((*result.findings, *own)))


@contextmanager
def _settled(lock: Future[str]) -> Iterator[None]:
    """Whoever waits for it is let go, whatever happens."""
    try:
        yield
    finally:
        if not lock.done():
            lock.set_result("")


def _result(stage: Built | Result) -> Result:
    return stage.result if isinstance(stage, Built) else stage


def _adding(stage: Built | Result, findings: tuple[Finding, ...]) -> Built | Result:
    result = _result(stage)
    result = replace(result, findings=in_order((*result.findings, *findings)))
    return replace(stage, result=result) if isinstance(stage, Built) else result


@dataclass(frozen=True, kw_only=True)
class _Building:
    """The parts of one build that depend on its versions."""

    run: Run
    job: Job
    config: ChaliceConfig
    versions: Versions
    base: Result

    def built(
        self, findings: tuple[Finding, ...], *, template: TemplateRequest | None
    ) -> Built | Result:
        self._say(f"preparing Chalice {self.versions.chalice} on Python {self.versions.python}")
        lock: Future[str] = Future()
        with ThreadPoolExecutor(max_workers=1) as pool, _settled(lock):
            packaging = pool.submit(self._package, lock)
            versions, wheels = self._as_packaged(packaging)
            python = make_app_environment(
                versions,
                cache_dir=self.run.cache_dir,
                environ=self.run.world.env,
                wheels=wheels,
            )
            lock.set_result(python.lock)
            layer_is_empty = False
            if self.config.automatic_layer(self._settings_stage):
                # The graph has no layer when there is nothing to put into it.
                early = _outcome(packaging)
                layer_is_empty = not isinstance(early, PackageError) and early.layer is None
            self._say("loading")
            loading = load_app(
                LoadRequest(
                    app_dir=_app_dir(self.run, self.job.app),
                    app=self.job.app,
                    stage=self.job.stage,
                    region=self.run.region(self.job) or FALLBACK_REGION,
                    python=python,
                    like=self.job.like,
                    secrets=self._secrets_at_load,
                    layer_is_empty=layer_is_empty,
                    template=template,
                    confined=self._must_be_confined,
                    out=self.run.out,
                ),
                work_dir=self.run.work_dir,
                standby=self.run.world.standby,
                meanwhile=partial(self._meanwhile, packaging, template=template is not None),
                log=self._app_said,
            )
            package = _outcome(packaging)
        return self._put_together(loading, package, (*findings, *python.findings))

    def _meanwhile(self, packaging: Future[Package], *, template: bool) -> None:
        """What does not wait for the app, while there is somebody to wait for."""
        for name in _AFTERWARDS:
            importlib.import_module(f"chalice_ci.{name}")
        # Nobody listens to the app meanwhile, so nothing is waited for.
        if template and packaging.done() and packaging.exception() is None:
            # It goes where the template goes: into the folder of packages.
            _ = packaging.result().manifest.text

    def _as_packaged(self, packaging: Future[Package]) -> tuple[Versions, tuple[Path, ...]]:
        """What the app's environment is made of, and the folders of wheels that no index has.

        Where something is built or brought, it waits for the package, so that it is built once.
        """
        requirements = self.versions.requirements
        if self.job.app.build or requirements.references or requirements.link_folders:
            early = _outcome(packaging)
            if not isinstance(early, PackageError):
                made = (wheel.path for wheel in early.resolved.made)
                folders = tuple(path.parent for path in made if path is not None)
                return replace(self.versions, requirements=early.resolved.requirements), folders
        return self.versions, ()

    def _packager(self) -> Packager:
        from chalice_ci.app.chalice_packager import ChalicePackager

        environ, cache_dir = self.run.world.env, self.run.cache_dir
        return ChalicePackager(
            python=make_packager_environment(
                self.versions.chalice,
                cache_dir=cache_dir,
                environ=environ,
                interpreter=self.versions.interpreter,
            ),
            work_dir=self.run.work_dir,
            environ=environ,
            network=bool(self.job.app.build),
            confined=self._must_be_confined,
            log=self._app_said,
        )

    def _builder(self) -> Builder:
        from chalice_ci.app.wheel_builder import SandboxedBuilder

        environ, cache_dir = self.run.world.env, self.run.cache_dir
        uv = find_uv(environ, cache_dir=cache_dir / "uv", index=True)
        return SandboxedBuilder(
            interpreter=self.versions.interpreter,
            uv=replace(uv, environ=with_index(uv.environ, self.versions.requirements)),
            cache_dir=cache_dir,
            work_dir=self.run.work_dir,
            confined=self._must_be_confined,
            log=self._app_said,
        )

    @property
    def _settings_stage(self) -> str:
        """The stage whose settings hold: a preview has those of another."""
        return self.job.like or self.job.stage

    def _say(self, text: str) -> None:
        self.run.progress.say(text, job=self.job.name)

    def _app_said(self, line: str) -> None:
        self.run.progress.say(f"app| {line}", job=self.job.name)

    @property
    def _must_be_confined(self) -> bool:
        """On CI, with credentials around, an app is only loaded where something shuts it in."""
        world = self.run.world
        exposed = (world.has_credentials or self.run.secrets.values) and world.on_ci
        return bool(exposed) and not self.run.inputs.flag(ALLOW_UNSANDBOXED)

    @property
    def _secrets_at_load(self) -> tuple[SecretAtLoad, ...]:
        """The stage's secrets as the app may see them."""
        shown = shown_at_load(self.run, self.job)
        return tuple(
            SecretAtLoad(variable=one, value=shown.get(one.secret))
            for one in secret_variables(self.job)
        )

    def _package(self, environment_lock: Future[str]) -> Package:
        # Late: in a thread of its own, while the app is loaded.
        from chalice_ci.package.build import PackageRequest, build_package

        promoted = self.run.inputs.path(PROMOTE)
        if promoted is not None:
            # Late: most runs build.
            from chalice_ci.promoting import promoted_package

            path = self.run.world.cwd / promoted
            return promoted_package(self.run, self.job, path, self.config, self.versions)
        settings = self.config, self._settings_stage
        chalice = genuine_chalice(
            self.versions.chalice,
            cache_dir=self.run.cache_dir,
            environ=self.run.world.env,
            interpreter=self.versions.interpreter,
        )
        return build_package(
            PackageRequest(
                app_dir=_app_dir(self.run, self.job.app),
                repo_root=self.run.checkout.root,
                requirements=self.versions.requirements,
                python=self.versions.python,
                interpreter=self.versions.interpreter,
                architecture=settings[0].architecture(settings[1], self.versions.chalice),
                automatic_layer=settings[0].automatic_layer(settings[1]),
                chalice_dir=chalice,
                max_size=self.run.config.package.max_size_bytes,
                through_bucket=self.run.package_bucket(self.job) is not None,
                environment_lock=environment_lock,
                allowed=self.job.app.build,
                build=self._builder() if self.job.app.build else None,
                packager=self._packager() if self.run.config.package.builder == "chalice" else None,
            ),
            cache_dir=self.run.cache_dir,
            out_dir=self.run.work_dir / "packages",
            environ=self.run.world.env,
        )

    def _put_together(
        self, loading: LoadResult, package: Package | PackageError, findings: tuple[Finding, ...]
    ) -> Built | Result:
        from chalice_ci.check import check
        from chalice_ci.graph import Loaded
        from chalice_ci.source import read_source

        answer = loading.answer
        loaded = answer if isinstance(answer, Loaded) else None
        if loaded is not None:
            refuse_misplaced(self.run, self.job, loaded)
        checked = check(
            answer,
            app=self.job.app,
            stage=self.job.stage,
            config=self.run.config,
            source=read_source(self.run.checkout.root, self.job.app.path),
            settings=_StageSettings(self.config, self._settings_stage),
            known=findings,
            preview=self.job.like is not None,
        )
        result = replace(
            self.base,
            findings=checked,
            region=self.run.region(self.job) or "",
            isolation=model.Isolation(
                level=loading.isolation.level, reasons=loading.isolation.reasons
            ),
            timings=(model.Timing(step="load", seconds=round(loading.seconds, 3)),),
        )
        if isinstance(package, PackageError):
            return replace(result, failure=Failure.of(package))
        result = replace(result, package=_told(package, self.versions))
        if loaded is None:
            return result
        return Built(
            job=self.job,
            result=replace(
                result,
                features=tuple(sorted({use.name for use in loaded.features})),
                routes=len(loaded.routes),
                functions=len(loaded.functions),
            ),
            loaded=loaded,
            app_name=loaded.config_app_name or loaded.app_name,
            package=package,
            interpreter=self.versions.interpreter,
            snapshot_key=self.run.inputs.text(SNAPSHOT_KEY),
            snapshot_secrets=snapshot_secrets(self.run, self.job),
        )


def _outcome(packaging: Future[Package]) -> Package | PackageError:
    """The package, or why there is none: the app's own findings are still worth telling."""
    try:
        return packaging.result()
    except PackageError as error:
        return error


@dataclass(frozen=True)
class _StageSettings:
    """config.json as the checks of one stage see it; a preview's are those of another stage."""

    config: ChaliceConfig
    stage: str

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each value stands."""
        return self.config.places

    def lookup(self, stage: str, key: str, function: str | None = None) -> object:
        """The value that holds for this stage, whatever it is called."""
        del stage
        return self.config.lookup(self.stage, key, function)


def _config_findings(
    run: Run, app: AppConfig, config: ChaliceConfig, stages: tuple[Built | Result, ...]
) -> tuple[Finding, ...]:
    """What there is to say about config.json, for these stages of one app."""
    from chalice_ci.upgrade.findings import upgrade_findings

    if not stages:
        return ()
    loaded = tuple(stage.loaded for stage in stages if isinstance(stage, Built))
    # Functions that only a stage has that could not be loaded are not unknown.
    complete = len(loaded) == len(stages)
    return (
        *check_chalice_config(
            config,
            app=app,
            stages_wanted=tuple(_result(stage).stage for stage in stages),
            loaded_app_name=loaded[0].app_name if loaded else None,
            loaded_functions=_names(loaded, "LambdaFunction") if complete else None,
            loaded_rules=_names(loaded, *_RULES),
            preview_like=run.config.preview.like if run.config.preview else None,
            chalice_version=loaded[0].chalice_version if loaded else None,
        ),
        *upgrade_findings(facts_of(run, app, config, stages)),
    )


def facts_of(
    run: Run, app: AppConfig, config: ChaliceConfig, stages: Iterable[Built | Result]
) -> tuple[AppFacts, ...]:
    """What a change of the Chalice version is judged by, for these stages of one app."""
    from chalice_ci.upgrade.reading import StageAsked, read_facts

    previews = run.config.preview.like if run.config.preview else None
    asked = (
        StageAsked(
            stage=result.stage,
            like=previews if result.preview else None,
            chalice=result.chalice,
            python=result.python,
            region=result.region,
            loaded=stage.loaded if isinstance(stage, Built) else None,
        )
        for stage in stages
        for result in (_result(stage),)
    )
    return read_facts(run.checkout.root, app, asked, config=config, apps=run.config.apps)


def _names(loaded: tuple[Loaded, ...], *types: str) -> tuple[str, ...]:
    names = (r.name for one in loaded for r in one.graph.of_type(*types))
    return tuple(dict.fromkeys(names))


def _told(package: Package, versions: Versions) -> model.Package:
    return model.Package(
        archives=tuple(
            model.Archive(
                slot=archive.slot,
                sha256=archive.sha256,
                size=archive.size,
                unpacked_size=archive.unpacked_size,
                entries=archive.entries,
            )
            for archive in package.archives
        ),
        dependencies=tuple(
            model.Dependency(
                name=dependency.name,
                version=dependency.version,
                direct=dependency.direct,
                size=dependency.size,
            )
            for dependency in package.manifest.dependencies
        ),
        python=versions.python,
        architecture=package.manifest.architecture,
    )


def _settings(run: Run, app: AppConfig) -> ChaliceConfig | None:
    return read_chalice_config(_app_dir(run, app), repo_root=run.checkout.root)[0]


def _app_dir(run: Run, app: AppConfig) -> Path:
    return run.checkout.root / app.path


def _python_path(run: Run) -> Path | None:
    path = run.inputs.path(PYTHON_PATH)
    return None if path is None else run.world.cwd / path
