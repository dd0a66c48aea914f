"""What all suites share."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["crash.counts", "image.fixtures", "support.order"]

# An example that takes long on a busy machine is no defect: what has to be fast is measured.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
