"""Check, plan, preview and deploy AWS Chalice apps from CI, with the deployed state recorded."""

__version__ = "0.1.0"
