"""What all suites share."""

pytest_plugins = ["crash.counts", "image.fixtures", "support.order"]
