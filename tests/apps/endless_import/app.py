"""Never ends to be imported."""

import time

from chalice import Chalice

app = Chalice(app_name="shape-endless")

while True:
    time.sleep(0.05)
