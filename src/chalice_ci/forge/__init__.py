"""The forge port: pull requests, the one comment, previews' deployments, approvals."""
