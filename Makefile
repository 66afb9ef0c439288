# Every target makes the environment first when it is missing or the requirements changed.
# The first that runs and is one of the versions that the lock is for; 3.11 is the tested one
PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null \
	&& echo $$python && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?= data.csv
ARGS ?=
ENGINE ?= docker
BROWSER := $(or $(CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))

.DEFAULT_GOAL := help
.PHONY: help experiment serve test fast browser image image-test lint mlflow-ui bench clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

experiment: $(READY) ## run the experiment: 63 runs, 3 versions (DATA=reviews.csv, ARGS="--trials 5")
	@$(BIN)/python sentiment_mlflow_optuna.py --data "$(DATA)" $(ARGS)

serve: $(READY) ## serve the production version: API and page on http://127.0.0.1:8000
	@$(BIN)/python -m sentiment serve $(ARGS)

test: $(READY) lint browser ## lint, then run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

browser: ## Chromium for the test of the page: installed where it is missing and this is Debian, as root
	@if [ -n "$(BROWSER)" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing Chromium for the test of the page"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends chromium > /dev/null; \
	else \
		echo "no Chromium here: the tests of the page in a browser will be skipped; install it" \
			"or name it in CHROMIUM" >&2; \
	fi

image: ## the image of all roles (BASE=… names another base image, ENGINE=podman another engine)
	@$(ENGINE) build $(if $(BASE),--build-arg BASE="$(BASE)") --tag sentiment \
		--build-arg COMMIT="$$(git rev-parse HEAD 2> /dev/null || echo unknown)" .

image-test: $(READY) ## bring the whole stack up in containers and use it; needs podman, and root
	@$(BIN)/python tools/image_test.py

fast: $(READY) ## the fast tests alone
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

lint: $(READY) ## ruff, imports, mypy; workflow, Dockerfile, compose.yaml and manifests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache
	@$(BIN)/mypy
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml

mlflow-ui: $(READY) ## serve the MLflow UI of the project's store on http://127.0.0.1:5000
	@MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true $(BIN)/mlflow ui --workers 1 \
		--backend-store-uri sqlite:///mlflow.db --default-artifact-root ./mlruns $(ARGS)

bench: $(READY) ## the figures of the README: cleaning, cross-validation, whole run (DATA=reviews.csv)
	@$(BIN)/python tools/bench_cleaning.py --data "$(DATA)"
	@$(BIN)/python tools/bench_cross_validation.py --data "$(DATA)"
	@$(BIN)/python tools/bench_experiment.py --data "$(DATA)"

clean: ## remove caches and the environment; runs, models and studies stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './mlruns/*' -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt requirements-dask.txt requirements.lock
	@$(PYTHON) tools/set_up.py $(VENV)
	@touch $@
