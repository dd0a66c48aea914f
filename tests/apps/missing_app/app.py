"""Calls its app something else."""

from chalice import Chalice

application = Chalice(app_name="shape-missing-app")


@application.route("/")
def index():
    return {}
