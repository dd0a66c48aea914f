"""A websocket API with one of its three handlers and no route."""

from chalice import Chalice

app = Chalice(app_name="shape-websockets-only-message")
app.experimental_feature_flags.add("WEBSOCKETS")


@app.on_ws_message(name="incoming")
def message(event):
    return event.body
