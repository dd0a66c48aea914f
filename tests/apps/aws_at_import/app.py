"""Asks AWS for its settings while it is imported."""

import boto3

from chalice import Chalice

app = Chalice(app_name="shape-aws-at-import")

LIMIT = boto3.client("ssm").get_parameter(Name="/shape/limit")["Parameter"]["Value"]


@app.route("/")
def index():
    return {"limit": LIMIT}
