"""What all suites share."""

pytest_plugins = ["image.fixtures"]
