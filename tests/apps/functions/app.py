"""Plain Lambda functions; config.json sets each of them up differently."""

from chalice import Chalice

app = Chalice(app_name="shape-functions")


@app.lambda_function()
def plain(event, context):
    return {}


@app.lambda_function(name="sized")
def first(event, context):
    return {"memory": context.memory_limit_in_mb}


@app.lambda_function(name="networked")
def second(event, context):
    return {}


@app.lambda_function(name="borrowed")
def third(event, context):
    """Runs under a role that somebody else manages."""
    return {}


@app.lambda_function(name="strict")
def fourth(event, context):
    """Runs under a role with a policy of its own."""
    return {}
