"""A regional API that answers one network only."""

from chalice import Chalice

app = Chalice(app_name="shape-resource-policy")


@app.route("/")
def index():
    return {}
