"""What an audit of the set-up finds: workflows, trust policies, the repository's settings. Pure."""
