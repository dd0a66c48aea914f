"""A queue with a bound on its consumers (Chalice 1.31.2 and newer)."""

from chalice import Chalice

app = Chalice(app_name="shape-sqs-concurrency")


@app.on_sqs_message(queue="shape-bounded", batch_size=5, maximum_concurrency=4)
def bounded(event):
    return [record.body for record in event]
