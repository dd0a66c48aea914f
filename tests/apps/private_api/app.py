"""Reachable through a VPC endpoint only."""

from chalice import Chalice

app = Chalice(app_name="shape-private")


@app.route("/")
def index():
    return {}
