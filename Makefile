# perfuse: `make run` serves, `make test` tests. Everything lands in .venv/, target/ and build/.
PYTHON ?= python3
JOBS ?= 2
ARGS ?=
TORCH ?= default

BIN := .venv/bin
PYTHONS := service tests requirements benchmarks deploy $(wildcard examples clients)
UV := $(BIN)/uv pip install --python $(BIN)/python
NATIVE := pyproject.toml Cargo.toml Cargo.lock $(wildcard .cargo/config.toml rust-toolchain.toml) \
	$(shell find native -name '*.rs' -o -name Cargo.toml)

export OMP_NUM_THREADS ?= 1
export VIRTUAL_ENV := $(CURDIR)/.venv
# The pinned files are the only word on what is installed.
unexport PIP_FIND_LINKS PIP_REQUIRE_VIRTUALENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help run test unit proof check docs audit rules format bench demo peers build requirements openapi code-small results-text results-likelihood results-suites results-infill results-uncertainty results-latency clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="--port 9000" is passed on to `perfuse serve`; TORCH=cpu takes the CPU-only torch (see CONTRIBUTING.md)'

run: build ## set up and serve on http://127.0.0.1:8000
	@$(BIN)/perfuse serve $(ARGS)

build: .venv/.native ## the environment and the compiled extension, when their sources changed

# Python 3.11+, a C compiler and Rust are looked for first: their absence is said in one line, not in a traceback.
.venv/.tools: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "perfuse needs Python 3.11 or newer; set PYTHON=, for example make run PYTHON=python3.12" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "perfuse compiles a Rust extension: install Rust (rustup or your distribution)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "perfuse needs a C compiler (cc), for example Debian's build-essential" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

.venv/.serve-$(TORCH): .venv/.tools requirements/serve.txt
ifeq ($(TORCH),default)
	$(UV) --require-hashes -r requirements/serve.txt
else
	sed -nE 's/^((torch|triton|cuda|nvidia)[a-z0-9-]*)==.*/\1/p' requirements/serve.txt > .venv/accelerator.txt
	$(UV) --require-hashes --no-deps --excludes .venv/accelerator.txt -r requirements/serve.txt
	$(UV) --no-deps --torch-backend $(TORCH) "$$(sed -nE 's/^(torch==[0-9.]+).*/\1/p' requirements/serve.txt)"
endif
	@rm -f .venv/.serve-*
	@touch $@

.venv/.dev: .venv/.serve-$(TORCH) requirements/dev.txt clients/python/pyproject.toml
	$(UV) --require-hashes --no-deps -r requirements/dev.txt
	$(UV) --no-deps --no-build-isolation --editable clients/python
	@touch $@

.venv/.native: .venv/.serve-$(TORCH) $(NATIVE)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/maturin develop --release --uv --locked
	@touch $@

test: .venv/.dev build ## Rust and Python tests, coverage at least 90 % overall and of each package
	cargo test --workspace --locked --quiet
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -q -m "not proof" -n $(JOBS) $(wildcard tests/unit tests/native tests/api) $(PYTEST)
	$(BIN)/coverage run -m pytest -q -m "not proof" $(wildcard tests/services tests/clients tests/e2e tests/chaos) $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o build/coverage/coverage.json
	$(BIN)/python tests/coverage_gate.py build/coverage/coverage.json

unit: .venv/.dev build ## the quick tests only, without coverage
	$(BIN)/pytest -q -m "not proof" -n $(JOBS) $(wildcard tests/unit tests/native tests/api) $(PYTEST)

proof: .venv/.dev build ## kill rounds and other long proofs (up to 20 minutes)
	cargo test --release --locked --quiet -p perfuse_arrow_storage --features planted-bugs --test crashes -- \
		--include-ignored --nocapture
	$(BIN)/pytest -q -m proof --timeout 900 tests $(PYTEST)

check: .venv/.dev build ## formatting, types, lints, layers, repository rules, openapi.yaml, clippy
	$(BIN)/ruff format --check --quiet $(PYTHONS)
	$(BIN)/ruff check --quiet $(PYTHONS)
	$(BIN)/mypy
	$(BIN)/stubtest perfuse._native --mypy-config-file pyproject.toml
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	@$(MAKE) --no-print-directory docs audit

docs: .venv/.dev ## the site of docs/, into build/site; a broken link is an error
	$(BIN)/zensical build --strict

audit: .venv/.dev ## known vulnerabilities in what is pinned; passes, and says so, where advisories cannot be reached
	@$(BIN)/python requirements/audit.py

rules: .venv/.dev build ## the rules of tests/unit/test_repository.py; openapi.yaml and the client are what the code exports
	$(BIN)/pytest -q tests/unit/test_repository.py
	@$(BIN)/perfuse openapi | diff -u openapi.yaml - || { echo 'openapi.yaml is out of date: make openapi' >&2; exit 1; }
	@$(BIN)/python clients/generate.py --check || { echo 'the client is out of date: make openapi' >&2; exit 1; }

format: .venv/.dev ## rewrite the sources in the one format
	$(BIN)/ruff check --fix --quiet $(PYTHONS) || true
	$(BIN)/ruff format --quiet $(PYTHONS)
	cargo fmt --all

bench: build ## what front and engine cost, as JSON
	$(BIN)/perfuse bench serve --json

demo: build ## teach a fresh server four new kinds of request over HTTP (simulated feedback; a quarter of an hour)
	$(BIN)/perfuse eval learning --out demo.json $(ARGS)

peers: build ## the same model function behind other servers (LitServe, BentoML, Mosec, Ray Serve), measured
	test -x .venv-peers/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-peers
	$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r requirements/peers.txt
	$(BIN)/perfuse bench peers $(ARGS)

code-small: build ## train code-small anew; the same command goes on after an interruption (FIRST=76 GROWN=70 minutes)
	$(BIN)/perfuse train code --compiled --out runs/code-first --minutes $(or $(FIRST),76) \
		$(if $(wildcard runs/code-first/state.pt),--resume)
	$(BIN)/perfuse train code --compiled --out runs/code-small --minutes $(or $(GROWN),70) --layers 9 --rate 1.2e-3 \
		--grown-from runs/code-first $(if $(wildcard runs/code-small/state.pt),--resume)
	$(BIN)/perfuse train kit --model runs/code-small
	$(BIN)/perfuse train calibration --model runs/code-small

results-text: build ## measure every sampler and write the table of docs/results/text.md (TASKS=200)
	@mkdir -p build
	$(BIN)/perfuse eval samplers --tasks $(or $(TASKS),200) --page docs/results/text.md > build/samplers.json

results-likelihood: build ## measure the likelihood of held-out text and write its table (TASKS=500)
	@mkdir -p build
	$(BIN)/perfuse eval likelihood --tasks $(or $(TASKS),500) --page docs/results/text.md > build/likelihood.json

results-suites: build ## measure HumanEval and MBPP and write their table (SUITES="FILE …")
	@mkdir -p build
	$(BIN)/perfuse eval code $(foreach file,$(SUITES),--suite $(file)) --page docs/results/text.md > build/suites.json

results-infill: build ## measure gaps of three kinds and write their table (TASKS=550)
	@mkdir -p build
	$(BIN)/perfuse eval infill --kinds --tasks $(or $(TASKS),550) --page docs/results/text.md > build/infill.json

results-uncertainty: build ## measure how well the model knows when it is wrong, into docs/results/text.md (TASKS=500)
	@mkdir -p build
	$(BIN)/perfuse eval uncertainty --tasks $(or $(TASKS),500) --page docs/results/text.md > build/uncertainty.json

results-latency: build ## measure latency by canvas, batch, dtype and threads and write the tables (ARGS="--requests 100")
	@mkdir -p build
	$(BIN)/perfuse bench text $(ARGS) --page docs/results/text.md --json > build/latency.json

openapi: .venv/.dev build ## export the HTTP description and generate the client's half of it
	$(BIN)/perfuse openapi > openapi.yaml
	$(BIN)/python clients/generate.py

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command "make requirements" $(UPGRADE)
requirements: .venv/.tools ## pin again what pyproject.toml and requirements/*.in ask for (UPGRADE=--upgrade: newest)
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) pyproject.toml --extra serve -o requirements/serve.txt
	$(COMPILE) requirements/mcp.in -o requirements/mcp.txt
	$(COMPILE) requirements/otel.in -o requirements/otel.txt
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/peers.in -o requirements/peers.txt

clean: ## remove everything that was built or installed
	rm -rf .venv .venv-peers target build .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find service -name '*.so' -delete
