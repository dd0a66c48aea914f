"""Websockets that hide in a blueprint, opted in nowhere."""

from chalice import Chalice

from chalicelib.live import live

app = Chalice(app_name="shape-blueprint-websockets")


@app.route("/")
def index():
    return {}


app.register_blueprint(live)
