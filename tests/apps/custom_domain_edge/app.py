"""A domain in front of an edge-optimised API."""

from chalice import Chalice

app = Chalice(app_name="shape-domain-edge")


@app.route("/")
def index():
    return {}
