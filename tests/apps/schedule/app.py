"""Every way to write a schedule."""

from chalice import Chalice, Cron, Rate

app = Chalice(app_name="shape-schedule")


@app.schedule(Rate(5, unit=Rate.MINUTES))
def every_five_minutes(event):
    return event.to_dict()


@app.schedule(Cron(0, 18, "?", "*", "MON-FRI", "*"), description="Closes the books")
def weekdays(event):
    return event.to_dict()


@app.schedule("rate(1 hour)", name="hourly")
def text(event):
    return event.to_dict()
