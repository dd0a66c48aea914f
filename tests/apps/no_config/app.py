"""A project whose config.json is kept out of Git."""

from chalice import Chalice

app = Chalice(app_name="shape-no-config")


@app.route("/")
def index():
    return {}
