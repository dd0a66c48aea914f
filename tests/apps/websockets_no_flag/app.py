"""A websocket API that nobody opted in to: Chalice refuses it."""

from chalice import Chalice

app = Chalice(app_name="shape-websockets-no-flag")


@app.route("/")
def index():
    return {}


@app.on_ws_message()
def message(event):
    return event.body
