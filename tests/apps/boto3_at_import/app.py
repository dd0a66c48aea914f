"""Makes clients at import, as most apps do: needs a region, calls nobody; boto3 is Lambda's."""

import boto3

from chalice import Chalice

app = Chalice(app_name="shape-boto3-at-import")
table = boto3.resource("dynamodb").Table("orders")
queue = boto3.client("sqs")


@app.route("/")
def index():
    return {"items": table.scan()["Items"]}


@app.lambda_function()
def send(event, context):
    bucket = boto3.client("s3")
    bucket.put_object(Bucket="reports", Key="latest", Body=b"")
    return queue.send_message(QueueUrl=event["url"], MessageBody="{}")
