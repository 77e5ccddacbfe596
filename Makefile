# make demo    run an offline support agent, observed: live in the console, log in runs/
# make test    run the tests
# make test-lowest, test-newest    run the core tests with the lowest and newest versions of pydantic-ai
# make test-python VERSION=3.13    run the core tests on another Python that is installed on this machine
# make check   run linter, formatter and strict type checker
# make coverage    run the tests with branch coverage; fails below the limit in pyproject.toml
# make soak    thousands of runs, one in five abandoned: memory, threads, descriptors; ARGS='--runs 0 --seconds 3600' for an hour
# make mutation    mutation tests with random mutants by seed; ARGS='--rooms pipeline --mutants 20'
# make bench   overhead of observing, as ratios; ARGS=--full for all cases and subjects
# make bench-instructions   overhead in CPU instructions, compared with the committed numbers
# make transparency CHECKOUT=…   differences of pydantic-ai's own tests with every agent observed;
#              PYTHON=… names an interpreter with that pydantic-ai, its test dependencies and this package
# make docs    build the documentation site into dist/site
# make release REPOSITORY=https://…   build wheel, source archive and SBOM (CycloneDX) into dist/release, and try each archive
# make phoenix install Arize Phoenix, a target of some trace tests, in a separate environment (0.9 GB)
# make test-kits   run the tests with Claude's Agent SDK and Google's ADK, in separate environments (0.5 GB)
# make lock    resolve the development dependencies again

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A file is one worker's: the servers and browsers of its fixtures are started once. Long files are few tests: in order of
# size they would come last, one worker with all of them.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
export UV_SYSTEM_CERTS = true
PHOENIX ?= $(HOME)/.cache/sidestream/phoenix-20

.PHONY: demo test coverage soak mutation test-lowest test-newest test-python check format bench bench-instructions transparency docs release phoenix test-kits lock clean

demo: $(VENV)/.demo
	@$(BIN)/sidestream demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# The coverage tracer allocates memory: the test that counts memory blocks runs in `make test` only. Native tracebacks,
# because pytest's own parse the source, at which CPython 3.11 fails while another thread parses as well.
coverage: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term --tb=native \
		--deselect tests/pipeline/test_sidecar.py::TestNothingIsLeftBehind::test_by_a_thousand_runs_one_in_five_abandoned

soak: $(VENV)/.dev
	@$(BIN)/python -m tests.soak $(ARGS)

mutation: $(VENV)/.dev
	@$(BIN)/uv run -q --no-project --python $(BIN)/python --with 'cosmic-ray>=8.7,<9' --with coverage python -m tests.mutation --python $(BIN)/python $(ARGS)

# Lowest versions that pyproject.toml allows, newest pydantic-ai, and another interpreter.
TEST_NEEDS = 'pydantic-ai-slim[ag-ui,ui]' 'pytest>=8' 'pytest-timeout>=2.3' 'pytest-xdist>=3.6' 'hypothesis>=6.100' 'uvicorn>=0.30'
CORE_TESTS = tests/sources/pydantic_ai/exit_paths tests/sources/pydantic_ai/transparency tests/streaming
VERSION ?= 3.13

test-lowest: OPTIONS = --resolution lowest-direct
test-newest test-python: OPTIONS = --upgrade
test-lowest test-newest: INTERPRETER = $(BIN)/python
test-python: INTERPRETER = $(VERSION)
test-python: TEST_NEEDS += jsonschema fastapi httpx opentelemetry-instrumentation-fastapi opentelemetry-instrumentation-httpx
test-python: CORE_TESTS += tests/events tests/recording tests/pipeline
test-lowest test-newest test-python: $(VENV)/.dev
	@$(BIN)/uv venv -q --clear --no-python-downloads --python $(INTERPRETER) $(VENV)/$@
	@VIRTUAL_ENV=$(VENV)/$@ $(BIN)/uv pip install -q $(OPTIONS) -e '.[demo]' $(TEST_NEEDS)
	@VIRTUAL_ENV=$(VENV)/$@ $(BIN)/uv run -q --active --no-project python -m pytest -n 2 -p no:cacheprovider $(CORE_TESTS)

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(ARGS)

bench-instructions: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.instructions $(or $(ARGS),--check)

transparency: $(VENV)/.dev
	@test -n "$(CHECKOUT)" || { echo "give a work tree of pydantic-ai: make transparency CHECKOUT=…" >&2; exit 1; }
	@$(BIN)/python -m tests.upstream $(CHECKOUT) --python $(PYTHON) $(ARGS)

docs: $(VENV)/.dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q && echo dist/site/index.html

release: $(VENV)/.dev
	@$(BIN)/python -m tests.release --repository '$(REPOSITORY)'

phoenix: $(VENV)/.dev $(PHOENIX)/.made
	@ln -sfn $(PHOENIX) $(VENV)/phoenix

$(PHOENIX)/.made:
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(PHOENIX)
	@VIRTUAL_ENV=$(PHOENIX) $(BIN)/uv pip install -q 'arize-phoenix>=20.26,<21'
	@touch $@

# Install the kit first: google-adk pins an older OpenTelemetry, but works with the newer one installed afterwards.
test-kits: $(VENV)/.dev
	@for kit in claude-agent-sdk=claude_agent google-adk=google_adk; do \
		$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)/kit && \
		VIRTUAL_ENV=$(VENV)/kit $(BIN)/uv pip install -q $${kit%=*} && \
		VIRTUAL_ENV=$(VENV)/kit $(BIN)/uv pip install -q -e . pytest pytest-asyncio pytest-timeout pytest-xdist pyyaml && \
		$(VENV)/kit/bin/python -m pytest -q --confcutdir=tests/sources/sdk tests/sources/sdk/test_$${kit#*=}.py || exit; done

lock: $(VENV)/.dev
	@$(BIN)/uv pip compile pyproject.toml --extra demo --extra review --extra parquet --extra clickhouse --extra mcp --group dev --universal --upgrade --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment (on Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.demo: $(BIN)/python pyproject.toml requirements-dev.lock
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements-dev.lock -e '.[demo,review]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml requirements-dev.lock
	@echo "installing the development dependencies into $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@
