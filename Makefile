# make demo   the whole path on the bundled checkpoint: export, check, bench, a picture
# make test   install into a virtual environment and run the tests
# make test-thorough  the same and what takes minutes more
# make native the delegate's own tests (needs cmake)
# make arm    the package in an emulated 64-bit ARM Debian (on Debian 12; docs/packaging.md)
# make docs  the documentation as a site, into build/site (Python 3.11 or newer)
# make wheels the source distribution and the wheels for Linux, into dist/
PYTHON ?= python3
# What is installed: this folder, or a wheel.
PACKAGE ?= .
VENV ?= .venv
BIN := $(VENV)/bin
CMAKE_LISTS := CMakeLists.txt runtimes/native/CMakeLists.txt
SOURCES := $(shell find bihrnet_edge export runtimes calibration -name '*.py' -o -name '*.pt' -o -path '*/page/*') \
	$(shell find runtimes/native/src runtimes/native/include -type f) $(CMAKE_LISTS)
C_SOURCES := $(shell find runtimes/native benchmarks/native packaging -name '*.[ch]' -o -name '*.cc' -o -name '*.inc')
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test test-thorough native arm wheels docs lint format clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || \
		{ echo "bihrnet-edge needs Python 3.10 to 3.12; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Dependencies change rarely, the package often: two stamps. The first compiles nothing.
$(VENV)/dependencies: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	SKBUILD_WHEEL_CMAKE=false $(BIN)/python -m pip install --quiet --constraint constraints.txt ".[export,train,eval,video,dev,docs]"
	@touch $@

$(VENV)/package: $(VENV)/dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --force-reinstall $(PACKAGE)
	@touch $@

demo: $(VENV)/package
	$(BIN)/python examples/demo.py --out out

# From the folder tests: in the root, half of the package lies in the way of the installed one.
test: $(VENV)/package lint
	cd tests && OMP_NUM_THREADS=1 $(abspath $(BIN))/pytest -c ../pyproject.toml --rootdir .. $(PYTEST_ARGS) .

test-thorough: export BIHRNET_THOROUGH = 1
test-thorough: test

native:
	cmake -S . -B build/native -DBIHRNET_NATIVE_TESTS=ON
	cmake --build build/native --parallel 2
	cd build/native && ctest --output-on-failure --no-tests=error

arm: $(VENV)/package
	PYTHON=$(BIN)/python packaging/arm64/test.sh

wheels:
	PYTHON=$(PYTHON) packaging/build_wheels.sh dist

docs: $(VENV)/package
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/site

# mypy looks at the installed package: there, and only there, the four folders are one package.
lint: $(VENV)/package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	cd tests && $(abspath $(BIN))/mypy --config-file ../pyproject.toml -p bihrnet_edge

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@$(BIN)/clang-format -i $(C_SOURCES)

clean:
	rm -rf $(VENV) out build dist
