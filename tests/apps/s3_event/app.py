"""Bucket notifications: defaults, filters, several on one bucket."""

from chalice import Chalice

app = Chalice(app_name="shape-s3-event")


@app.on_s3_event(bucket="shape-uploads")
def uploaded(event):
    return event.key


@app.on_s3_event(
    bucket="shape-archive",
    events=["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"],
    prefix="in/",
    suffix=".csv",
    name="imported",
)
def archive(event):
    return event.key


@app.on_s3_event(bucket="shape-archive", events=["s3:ObjectRemoved:*"], prefix="out/")
def removed(event):
    return event.key
