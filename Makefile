# `make demo` and `make test` need Python 3.11+ and nothing else; the environment is made once and renewed when
# pyproject.toml or constraints.txt change.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# One process a core.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo report test coverage test-slow check docs lint format clean

.venv/base: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# torch first and alone, at the pinned version: another one would be replaced, and some bring gigabytes.
	$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(INSTALL) --editable .
	touch $@

.venv/demo: .venv/base
	$(INSTALL) --editable '.[demo]'
	touch $@

.venv/report: .venv/demo
	$(INSTALL) --editable '.[demo,report]'
	touch $@

.venv/test: .venv/base
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: .venv/demo
	$(BIN)/python examples/demo.py

demo/translator/config.json: | .venv/demo
	$(BIN)/python examples/demo.py

report: .venv/report demo/translator/config.json
	$(BIN)/hf-vec2vec report demo/translator --privacy --output_dir demo/report \
	  --source minilm=demo/minilm_held_out --target wordllama=demo/wordllama_held_out \
	  --oracle_source minilm=demo/minilm_a --oracle_target wordllama=demo/wordllama_a

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(PYTEST)

# The same with the share of lines that tests run, which takes a sixth longer.
coverage: .venv/test
	$(PYTEST) --cov --cov-report term

test-slow: .venv/test
	$(PYTEST) -m slow

# What needs no test to run: types, declared dependencies, the order of the rooms, the site.
check: .venv/test docs
	$(BIN)/mypy
	$(BIN)/deptry .
	$(BIN)/lint-imports --no-cache

# The site, in site/.
docs: .venv/test
	$(BIN)/zensical build --clean --strict

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo *.egg-info build site
