"""Events of the default event bus."""

from chalice import Chalice

app = Chalice(app_name="shape-cw-event")


@app.on_cw_event({"source": ["aws.codecommit"], "detail-type": ["CodeCommit Repository State Change"]})
def on_commit(event):
    return event.to_dict()


@app.on_cw_event({"source": ["aws.ec2"], "detail": {"state": ["stopped"]}}, name="stopped")
def on_instance(event):
    return event.to_dict()
