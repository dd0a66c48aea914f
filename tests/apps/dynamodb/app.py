"""Changes of a table; the stream's address comes with the stage's settings."""

import os

from chalice import Chalice

app = Chalice(app_name="shape-dynamodb")


@app.on_dynamodb_record(stream_arn=os.environ["TABLE_STREAM"])
def changed(event):
    return [record.event_name for record in event]


@app.on_dynamodb_record(
    stream_arn=os.environ["AUDIT_STREAM"],
    batch_size=20,
    starting_position="TRIM_HORIZON",
    maximum_batching_window_in_seconds=3,
    name="audit",
)
def on_audit(event):
    return [record.event_name for record in event]
