"""The machines of the other plugins, for Jenkins's nodes too."""

from plugins.conftest import answering, aws, begun, bench, functions, started

__all__ = ["answering", "aws", "begun", "bench", "functions", "started"]
