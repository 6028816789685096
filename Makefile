# `make help` lists the targets. The environment is .venv; everything the project needs is installed into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := schemas streams agents connectors
.DEFAULT_GOAL := help
.PHONY: help dev demo test lint format bench chaos soak docs-schemas constraints clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: $(VENV)/.installed ## install Tapeline and its tools into .venv

# Editors and mypy do not follow setuptools' import hooks, so the checkout is also linked as a plain
# `tapeline` folder that a .pth file puts on the path.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tapeline needs Python 3.11 or newer: make PYTHON=python3.11 dev")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/checkout/tapeline
	for package in $(PACKAGES); do ln -sfn ../../../$$package $(VENV)/checkout/tapeline/$$package; done
	$(BIN)/python -c 'import sysconfig, pathlib; pathlib.Path(sysconfig.get_path("purelib"), "tapeline_checkout.pth").write_text(str(pathlib.Path("$(VENV)/checkout").resolve()) + "\n")'
	touch $@

demo: dev ## ticks through Kafka and PostgreSQL to signals, live (ARGS="--seconds 20 --plain" passes arguments on)
	$(BIN)/tapeline demo $(ARGS)

test: dev ## lint, then every test against real servers (ARGS="-k frames" passes arguments on)
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(ARGS)

lint: dev ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p tapeline -p tests

format: dev ## rewrite the code as ruff likes it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev ## speed, latency and memory beside Kafka Streams, Faust and others (ARGS="--only ours,floor --quick", ARGS=--help)
	$(BIN)/python -m tests.bench $(ARGS)

chaos: dev ## disturb roles and servers 300 times, live venues 500 times, at seeded moments (ARGS="--only venues --runs 20" passes arguments on)
	$(BIN)/python -m tests.chaos $(ARGS)

soak: dev ## an hour of a live venue at 20,000 ticks/s: every tick once, memory, lag (ARGS="--minutes 2" passes arguments on)
	$(BIN)/python -m tests.soak $(ARGS)

docs-schemas: dev ## write docs/schemas, docs/quality.schema.json and the table of docs/metrics.md anew from the code
	$(BIN)/python -m tapeline.schemas.generate docs/schemas
	$(BIN)/python -m tapeline.agents.quality.schema docs/quality.schema.json
	$(BIN)/python -m tapeline.streams.metrics docs/metrics.md

constraints: ## resolve the newest versions of everything anew and pin them
	rm -rf $(VENV)/resolve && $(PYTHON) -m venv $(VENV)/resolve
	$(VENV)/resolve/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	$(VENV)/resolve/bin/pip freeze --disable-pip-version-check --exclude tapeline | grep -v ' @ ' > constraints.txt

clean: ## remove the environment, caches and build output (not the data in TAPELINE_HOME)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
