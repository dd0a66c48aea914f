"""What `chalice package` and `chalice generate-models` write, by Chalice's own generators.

Standard library and chalice only; Python 3.10 and later; Chalice 1.29 to 1.34.
"""

from __future__ import annotations

import contextlib
import json
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import chalice.awsclient
import chalice.package
from chalice.deploy import appgraph, planner, swagger, validate
from chalice.utils import serialize_to_json

# Patched below, so their own types are of no use here.
awsclient: Any = chalice.awsclient
chalice_package: Any = chalice.package

_PLAIN_REGION = re.compile(r"(?!fips)[a-z]{2,4}(-(?!fips)[a-z]+)+-[0-9]\Z")
_TERRAFORM = "terraform"


def template(
    wanted: Mapping[str, Any],
    config: Any,
    factory: Any,
    stage: str,
    *,
    build: Callable[[Any], Any],
) -> Any:
    """The template as JSON; `build` makes the application with a generator of API descriptions.

    `wanted` has the `form` (Chalice's --pkg-format) and in `merge` the name and text of a file, or
    None. Raises what Chalice raises.
    """
    validate.validate_resource_policy(config)
    terraform = wanted["form"] == _TERRAFORM
    generator = swagger.TerraformSwaggerGenerator if terraform else swagger.CFNSwaggerGenerator
    resources = appgraph.DependencyBuilder().build_dependencies(build(generator()))
    options = _package_options(factory)
    kind = chalice_package.TerraformGenerator if terraform else chalice_package.SAMTemplateGenerator
    found = kind(config, options).generate(resources)
    files = _Files(wanted["merge"])
    location = (
        chalice_package.TerraformCodeLocationPostProcessor
        if terraform
        else chalice_package.SAMCodeLocationPostProcessor
    )
    location(osutils=files).process(found, config, ".", stage)
    if wanted["merge"] is not None:
        yaml = chalice_package.YAMLTemplateSerializer
        name = wanted["merge"]["name"]
        serializer = (
            yaml() if yaml.is_yaml_template(name) else chalice_package.JSONTemplateSerializer()
        )
        chalice_package.TemplateMergePostProcessor(
            osutils=files,
            merger=chalice_package.TemplateDeepMerger(),
            template_serializer=serializer,
            merge_template=name,
        ).process(found, config, ".", stage)
    return json.loads(serialize_to_json(found))


def models(app: Any) -> Any:
    """The description of the app's REST API that `chalice generate-models` prints; None without."""
    if not app.routes:
        return None
    found = swagger.TemplatedSwaggerGenerator().generate_swagger(app)
    return json.loads(json.dumps(found, cls=planner.PlanEncoder))


def _package_options(factory: Any) -> Any:
    """Chalice's options of a template, with a client that is not made to be asked for its region.

    Chalice makes one of API Gateway for that: reading the description of that API takes longer than
    loading most apps. botocore gives a client the session's region, but for odd names.
    """
    loader = awsclient.create_loader
    awsclient.create_loader = lambda _: _Endpoints(loader("data_loader"))
    try:
        options = factory.create_package_options()
    finally:
        awsclient.create_loader = loader
    client = options._client
    region = client._session.get_config_variable("region")
    if isinstance(region, str) and _PLAIN_REGION.match(region):
        told = types.SimpleNamespace(meta=types.SimpleNamespace(region_name=region))
        client._client_cache["apigateway"] = told
    return options


class _Endpoints:
    """Botocore's description of AWS's endpoints, read as plain dictionaries: half of the memory."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def load_data(self, name: str) -> Any:
        """The same as botocore's loader, for those files that are not compressed."""
        for folder in self._loader.search_paths:
            with contextlib.suppress(FileNotFoundError):
                return json.loads(Path(folder, f"{name}.json").read_bytes())
        return self._loader.load_data(name)


class _Files:
    """The file operations of post-processors: no package to copy, one file to merge at most."""

    def __init__(self, merge: Mapping[str, str] | None) -> None:
        self._merge = merge

    def copy(self, source: str, destination: str) -> None:
        """Do nothing: there is no package here."""

    def file_exists(self, filename: str) -> bool:
        """Only the file to merge is asked for."""
        del filename
        return self._merge is not None

    def get_file_contents(self, filename: str, binary: bool = True, encoding: str = "utf-8") -> str:
        """What the file to merge holds."""
        del filename, binary, encoding
        assert self._merge is not None
        return self._merge["text"]
