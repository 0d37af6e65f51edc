# make demo   the whole path on the bundled checkpoint: export, check, bench, a picture
# make test   install into a virtual environment and run every test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find bihrnet_edge export runtimes calibration -name '*.py' -o -name '*.pt') CMakeLists.txt
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test lint format clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || \
		{ echo "bihrnet-edge needs Python 3.10 to 3.12; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Dependencies change rarely, the package often: two stamps.
$(VENV)/dependencies: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ".[export,train,eval,dev]"
	@touch $@

$(VENV)/package: $(VENV)/dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --force-reinstall .
	@touch $@

demo: $(VENV)/package
	$(BIN)/python examples/demo.py --out out

# From the folder tests: in the root, half of the package lies in the way of the installed one.
test: $(VENV)/package lint
	cd tests && OMP_NUM_THREADS=1 $(abspath $(BIN))/pytest -c ../pyproject.toml --rootdir .. $(PYTEST_ARGS) .

# mypy looks at the installed package: there, and only there, the four folders are one package.
lint: $(VENV)/package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd tests && $(abspath $(BIN))/mypy --config-file ../pyproject.toml -p bihrnet_edge

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) out build dist
