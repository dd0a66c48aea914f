# Everything a newcomer needs: `make demo` and `make test` set up what they use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Other tools' settings must not decide what this project installs or runs.
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests wait for processes, AWS and git for a good part of their time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# A test of all cases may last as long as this on a slow machine.
DEEP = $(BIN)/python -m pytest -o timeout=3600

.PHONY: demo test test-deep lint bench docs site pictures lock clean

$(READY): setup.py requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "chalice-ci needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY)  ## The whole story on the embedded AWS; no account, token or root needed
	$(BIN)/chalice-ci demo

test: lint ## Lint, types and all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-deep: $(READY)  ## Every point at which a deploy can be killed, with both kinds of store; takes long
	CRASH_DEPTH=all POLICY_DEPTH=all $(DEEP) -n auto --dist load tests/crash tests/test_policy_enforced.py
	STATE_WRITERS=100 $(DEEP) -k none_is_lost tests/test_state_stores.py \
	  tests/test_github_store.py tests/test_s3_store.py
	PLUGINS_DEPTH=all $(DEEP) tests/plugins
	DISK_FAULTS=all $(DEEP) tests/test_disk_faults.py
	PARITY=all $(DEEP) -n auto --dist loadfile tests/parity
	MIGRATING=all TEMPLATES=all $(DEEP) tests/test_migrating.py tests/test_templates.py
	PREVIEW_PULLS=20 PREVIEW_SEED=6 $(DEEP) tests/test_random_previews.py
	PREVIEWS_AT_ONCE=20 PREVIEW_SEED=6 $(DEEP) tests/test_previews_at_github.py
	EXPIRY=all $(DEEP) tests/test_expiry.py
	DEPLOYERS=all $(DEEP) tests/test_environment.py -k has_a_deployer
	MATRIX_PARTS=100 $(DEEP) tests/test_matrix_at_github.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## Paired measurements against plain Chalice
	$(BIN)/python benchmarks/bench_package.py
	$(BIN)/python benchmarks/bench_diff.py

docs: $(READY)  ## Write the generated tables and the pictures of the findings
	$(BIN)/python -m chalice_ci.reference
	$(BIN)/python -m chalice_ci.rules docs/findings.md
	$(BIN)/python docs/pictures/findings.py

build/docs/.ready: requirements/docs.txt
	$(PYTHON) -m venv build/docs
	build/docs/bin/python -m pip install --quiet --require-hashes -r requirements/docs.txt
	touch $@

site: build/docs/.ready  ## The documentation as a site: build/site/site/index.html
	build/docs/bin/python docs/build_site.py build/docs/bin/zensical build/site

pictures: $(READY)  ## Draw the pictures of docs/ anew: needs Chromium, ImageMagick and npm
	npm install --silent --no-save --prefix build/pictures mermaid@11
	$(BIN)/python docs/pictures/draw.py build/pictures

lock: $(READY)  ## Resolve the development environment anew: names, versions and hashes only
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --upgrade --extra gitlab --extra local setup.py requirements/dev.in \
	  --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --constraint requirements/dev.txt --extra gitlab setup.py \
	  --output-file requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --constraint requirements/dev.txt \
	  --excludes requirements/rehearsal-excludes.txt --extra gitlab --extra local setup.py \
	  --output-file requirements/rehearsal.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --upgrade requirements/docs.in \
	  --output-file requirements/docs.txt

clean:
	rm -rf $(VENV) build dist chalice-ci-out
