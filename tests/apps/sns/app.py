"""Topics by name and by ARN."""

from chalice import Chalice

app = Chalice(app_name="shape-sns")


@app.on_sns_message(topic="shape-orders")
def by_name(event):
    return event.message


@app.on_sns_message(topic="arn:aws:sns:us-east-1:123456789012:shape-refunds", name="refunds")
def by_arn(event):
    return event.message
