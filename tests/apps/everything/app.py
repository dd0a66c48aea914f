"""All triggers in one app, as grown projects have them."""

import os

from chalice import AuthResponse, Chalice, Rate

app = Chalice(app_name="shape-everything")
app.experimental_feature_flags.update(["WEBSOCKETS"])


@app.authorizer(ttl_seconds=60)
def gate(request):
    return AuthResponse(routes=["*"], principal_id="user")


@app.middleware("all")
def counted(event, get_response):
    return get_response(event)


@app.route("/", methods=["GET", "POST"], cors=True, authorizer=gate)
def index():
    return {}


@app.lambda_function()
def worker(event, context):
    return {}


@app.schedule(Rate(1, unit=Rate.HOURS))
def tick(event):
    return {}


@app.on_cw_event({"source": ["aws.health"]})
def health(event):
    return {}


@app.on_s3_event(bucket="shape-everything", suffix=".json")
def stored(event):
    return {}


@app.on_sns_message(topic="shape-everything")
def told(event):
    return {}


@app.on_sqs_message(queue="shape-everything")
def queued(event):
    return {}


@app.on_kinesis_record(stream="shape-everything")
def streamed(event):
    return {}


@app.on_dynamodb_record(stream_arn=os.environ["TABLE_STREAM"])
def changed(event):
    return {}


@app.on_ws_connect()
def connect(event):
    pass


@app.on_ws_message()
def message(event):
    pass


@app.on_ws_disconnect()
def disconnect(event):
    pass
