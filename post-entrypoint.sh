#!/bin/bash -p
# Without "$@": GitHub's runner hands the action's `args` to this one too.
exec /opt/chalice-ci/bin/python -I -m chalice_ci action-post
