"""Records of a stream."""

from chalice import Chalice

app = Chalice(app_name="shape-kinesis")


@app.on_kinesis_record(stream="shape-clicks")
def clicks(event):
    return [record.data for record in event]


@app.on_kinesis_record(
    stream="shape-prices",
    batch_size=50,
    starting_position="TRIM_HORIZON",
    maximum_batching_window_in_seconds=10,
    name="prices",
)
def on_price(event):
    return [record.data for record in event]
