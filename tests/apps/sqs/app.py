"""Queues by name and by ARN, in batches."""

from chalice import Chalice

app = Chalice(app_name="shape-sqs")


@app.on_sqs_message(queue="shape-jobs")
def by_name(event):
    return [record.body for record in event]


@app.on_sqs_message(
    queue_arn="arn:aws:sqs:us-east-1:123456789012:shape-mail",
    batch_size=10,
    maximum_batching_window_in_seconds=5,
    name="mail",
)
def by_arn(event):
    return [record.body for record in event]
