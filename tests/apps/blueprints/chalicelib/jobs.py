from chalice import Blueprint

jobs = Blueprint(__name__)


@jobs.schedule("rate(10 minutes)")
def tick(event):
    return {}


@jobs.on_sqs_message(queue="shape-blueprint-jobs", batch_size=2)
def work(event):
    return {}


@jobs.middleware("all")
def trace(event, get_response):
    return get_response(event)
