# The image of the container action. GitHub's runner builds the last stage.
ARG BASE=docker.io/library/python:3.13-slim-trixie

# -- what builds; its tools are not shipped -------------------------------------------------------

FROM ${BASE} AS dependencies
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
WORKDIR /build
COPY requirements/runtime.txt requirements/
# pip brings uv, with the hash it has in the lock file; uv brings everything else.
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /bootstrap \
 && sed --quiet '/^uv==/,/[^\\]$/p' requirements/runtime.txt > /bootstrap/uv.txt \
 && /bootstrap/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: \
      --requirement /bootstrap/uv.txt
RUN --mount=type=cache,target=/root/.cache \
    /bootstrap/bin/uv venv --quiet --no-project --python "$(command -v python3)" /opt/chalice-ci \
 && /bootstrap/bin/uv pip install --quiet --python /opt/chalice-ci --require-hashes --no-deps \
      --only-binary :all: --requirement requirements/runtime.txt \
 && rm --force /opt/chalice-ci/.lock

FROM dependencies AS rehearsal-dependencies
COPY requirements/rehearsal.txt requirements/
RUN --mount=type=cache,target=/root/.cache \
    /bootstrap/bin/uv pip install --quiet --python /opt/chalice-ci --require-hashes --no-deps \
      --only-binary :all: --requirement requirements/rehearsal.txt \
 && rm --force /opt/chalice-ci/.lock

FROM dependencies AS package
COPY requirements/dev.txt requirements/
COPY LICENSE README.md pyproject.toml setup.py ./
COPY src src
RUN --mount=type=cache,target=/root/.cache \
    /bootstrap/bin/uv build --quiet --wheel --python /opt/chalice-ci \
      --build-constraints requirements/dev.txt --require-hashes \
 && /bootstrap/bin/uv pip install --quiet --python /opt/chalice-ci --no-deps \
      --target /package dist/*.whl \
 && rm --recursive /package/bin /package/.lock

# The environments that a check or a deployment on this Python needs: nothing is fetched for them.
# Not below the cache mount, so that equal files can be one file.
FROM dependencies AS seed
COPY --from=package /package /opt/chalice-ci/lib/python3.13/site-packages
RUN /opt/chalice-ci/bin/python -I -m chalice_ci.app.seed

# -- what is shipped ------------------------------------------------------------------------------

FROM ${BASE} AS system
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]
# git's plumbing, fetch and push over HTTPS need no Perl library, no server and no manual. It is
# the release's newest, because Debian keeps no older one to pin.
# hadolint ignore=DL3008
RUN printf 'path-exclude=%s\n' '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/man/*' \
      '/usr/share/perl/*' '/usr/share/perl5/*' '/usr/lib/*/perl/*' '/usr/lib/*/perl5/*' \
      '/usr/lib/*/libperl.so*' '/usr/share/git-core/contrib/*' '/usr/share/bash-completion/*' \
      '/usr/bin/scalar' '/usr/lib/git-core/scalar' '/usr/lib/git-core/git-daemon' \
      '/usr/lib/git-core/git-http-backend' '/usr/lib/git-core/git-http-fetch' \
      '/usr/lib/git-core/git-http-push' '/usr/lib/git-core/git-imap-send' \
      > /etc/dpkg/dpkg.cfg.d/chalice-ci \
 && echo 'path-include=/usr/share/doc/*/copyright' >> /etc/dpkg/dpkg.cfg.d/chalice-ci \
 && apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && apt-get clean \
 && rm --recursive --force /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log \
      /var/log/apt /etc/dpkg/dpkg.cfg.d/chalice-ci
# The standard library starts compiled. Apps get their environments from uv, so pip goes.
RUN library="$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && rm --recursive --force "$library"/ensurepip "$library"/site-packages/pip* \
      /usr/local/bin/pip* \
 && python3 -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(test|tests|idlelib|turtledemo|lib2to3|site-packages|dist-packages)/' "$library"
COPY --chmod=0755 entrypoint.sh post-entrypoint.sh /
RUN ln --symbolic /entrypoint.sh /usr/local/bin/chalice-ci
# uv fetches the Python of an app that asks for another one than the image has (docs/image.md).
ENV LANG=C.UTF-8 \
    UV_PYTHON_DOWNLOADS=automatic
WORKDIR /github/workspace
ENTRYPOINT ["/entrypoint.sh"]
CMD ["--help"]

FROM system AS rehearsal
COPY --from=rehearsal-dependencies /opt/chalice-ci /opt/chalice-ci
COPY --from=seed /opt/chalice-ci/share/chalice-ci /opt/chalice-ci/share/chalice-ci
COPY --from=package /package /opt/chalice-ci/lib/python3.13/site-packages
LABEL org.opencontainers.image.title="chalice-ci with the embedded AWS" \
      org.opencontainers.image.description="Rehearse deployments of AWS Chalice apps without an account." \
      org.opencontainers.image.licenses="Apache-2.0"
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Last, because it is the one that GitHub's runner builds.
FROM system AS action
COPY --from=dependencies /opt/chalice-ci /opt/chalice-ci
COPY --from=seed /opt/chalice-ci/share/chalice-ci /opt/chalice-ci/share/chalice-ci
COPY --from=package /package /opt/chalice-ci/lib/python3.13/site-packages
LABEL org.opencontainers.image.title="chalice-ci" \
      org.opencontainers.image.description="Check, plan, preview and deploy AWS Chalice apps from CI." \
      org.opencontainers.image.licenses="Apache-2.0"
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
