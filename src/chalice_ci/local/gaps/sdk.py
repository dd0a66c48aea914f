"""GetSdk: a JavaScript client with a function for each route that is deployed to the stage.

AWS's own client signs requests and comes with libraries; this one calls `fetch`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

from moto.apigateway.responses import APIGatewayResponse
from moto.apigateway.urls import url_paths

from chalice_ci.local import deployed
from chalice_ci.local.gaps.gap import Added, Gap, Route

_HEAD = """\
// A client of the REST API %s for its stage %s.
var apigClientFactory = {newClient: function (config) {
  var client = {};
  var call = function (method, path) {
    return function (params, body) {
      var url = path.replace(/\\{([^}]+)\\}/g, function (_, name) { return params[name]; });
      return fetch(config.invokeUrl + url, {method: method, body: body});
    };
  };
"""


def client_of(api: dict[str, Any], stage: str) -> str:
    """The text of the client."""
    lines = [_HEAD % (api["id"], stage)]
    for route in sorted(api["routes"], key=lambda one: (one["path"], one["method"])):
        words = [word for word in re.split(r"\W+", route["path"]) if word]
        name = "".join(word.capitalize() for word in words) or "Root"
        call = f"call({json.dumps(route['method'])}, {json.dumps(route['path'])})"
        lines.append(
            f"  client.{name[0].lower()}{name[1:]}{route['method'].capitalize()} = {call};\n"
        )
    return "".join((*lines, "  return client;\n}};\n"))


def _sdk(self: APIGatewayResponse) -> Any:
    parts = self.path.strip("/").split("/")
    identity, stage, kind = parts[1], parts[3], parts[5]
    if kind != "javascript":
        said = {"message": f"Unsupported SDK type: {kind}"}
        return 400, {"status": 400, "x-amzn-errortype": "BadRequestException"}, json.dumps(said)
    api = deployed.rest_api(identity, stage)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            ("apigClient.js", client_of(api, stage)),
            ("README.md", "Made by the embedded AWS.\n"),
        ):
            archive.writestr(zipfile.ZipInfo(f"apiGateway-js-sdk/{name}"), text)
    return 200, {"content-type": "application/octet-stream"}, packed.getvalue()


GAP = Gap(
    name="sdk",
    lacks="GetSdk is not implemented",
    hits="`chalice generate-sdk`",
    patches=(
        Added(owner=APIGatewayResponse, name="get_sdk", method=_sdk),
        Route(
            tables=(url_paths,),
            pattern="{0}/restapis/(?P<api_id>[^/]+)/stages/(?P<stage>[^/]+)/sdks/(?P<sdk>[^/]+)/?$",
            handler=APIGatewayResponse.dispatch,
        ),
    ),
)
