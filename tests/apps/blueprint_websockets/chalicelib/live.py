from chalice import Blueprint

live = Blueprint(__name__)


@live.on_ws_connect()
def opened(event):
    pass


@live.on_ws_message()
def said(event):
    return event.body
