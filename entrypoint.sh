#!/bin/bash -p
exec /opt/chalice-ci/bin/python -I -m chalice_ci "$@"
