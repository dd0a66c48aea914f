"""What `init` writes: chalice-ci.yml, workflows, and the template of the deploy role. Pure."""
