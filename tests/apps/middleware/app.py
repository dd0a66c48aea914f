"""Middleware of every event type, and Chalice's own error and WSGI-like helpers."""

from chalice import Chalice, ConvertToMiddleware

app = Chalice(app_name="shape-middleware", debug=True)


def logged(func):
    def inner(event, context):
        app.log.info("%s", event)
        return func(event, context)

    return inner


app.register_middleware(ConvertToMiddleware(logged))


@app.middleware("all")
def everything(event, get_response):
    return get_response(event)


@app.middleware("http")
def http_only(event, get_response):
    response = get_response(event)
    response.headers["X-Stamp"] = "1"
    return response


@app.middleware("pure_lambda")
def lambda_only(event, get_response):
    return get_response(event)


@app.middleware("scheduled")
def scheduled_only(event, get_response):
    return get_response(event)


@app.route("/")
def index():
    return {}


@app.lambda_function()
def worker(event, context):
    return {}


@app.schedule("rate(1 day)")
def nightly(event):
    return {}
