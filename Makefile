PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := Scripts
else
BIN := bin
endif
LOCK := requirements-dev.lock
RUNTIME_LOCK := requirements.lock
BUILD_LOCK := requirements-build.lock
DATA ?= data/open-corpus
MODELS := edge/ms_edge/models
RUN ?= build/model
BENCH ?=
EXPORT := --quiet --frozen --no-annotate --no-header --no-emit-project
JSON ?= build/bench/speed.json
PYTHONS ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# The oldest version of each package that pyproject.toml allows for the runtime and the extra cpu.
LOWEST = $(shell $(PYTHON) -c 'import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*(re.sub(r">=([^,]+).*", r"==\1", d) for d in p["dependencies"] + p["optional-dependencies"]["cpu"]))')
# Without the modules that need the extra ray: its packages are not installed.
EDGE_TESTS := tests/edge edge --ignore=edge/ms_edge/archive --ignore=edge/ms_edge/output/parquet.py
# `make fuzz`: changed recordings and model files, seconds for each parser, processes, and the seed, another one each day.
FUZZ_INPUTS ?= 1000000
FUZZ_MODELS ?= 10000
FUZZ_JOBS ?= $(shell nproc)
FUZZ_S ?= 120
FUZZ_SEED ?= $(shell date +%Y%m%d)
# `make faults`: runs, at most.
FAULTS ?= 10000
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-slow parity fuzz faults endurance nightly test-edge test-lowest test-arm64 test-armhf test-newest test-examples test-browser test-live report-assets site-assets check wheelhouse bench bench-docs bench-check bench-baseline docs docs-site model model-files large-files lock dist clean
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 17

# The runtime alone, as a user gets it: no TensorFlow.
.venv/installed: pyproject.toml $(RUNTIME_LOCK)
	$(PYTHON) -m venv .venv
	.venv/$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(RUNTIME_LOCK)
	.venv/$(BIN)/$(PIP_INSTALL) --no-deps --editable .
	@touch $@

demo: .venv/installed ## classify the sample recordings with the bundled model
	.venv/$(BIN)/ms-edge classify tests/data/*.wav

# The runtime and what its own tests need. pip demands a hash for everything, the editable install
# too, if one constraint has a hash: the constraints are the lock without its hashes.
.venv-edge/installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv-edge
	.venv-edge/$(BIN)/$(PIP_INSTALL) --upgrade 'pip>=25.1'  # reads dependency groups
	sed -e '/--hash/d' -e 's/ *\\$$//' $(LOCK) > .venv-edge/constraints.txt
	.venv-edge/$(BIN)/$(PIP_INSTALL) --constraint .venv-edge/constraints.txt --editable '.[cpu]' --group edge-test
	@touch $@

# The oldest versions of the runtime's packages, and a Python that has wheels for them.
.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/$(BIN)/$(PIP_INSTALL) --upgrade 'pip>=25.1'
	.venv-lowest/$(BIN)/$(PIP_INSTALL) --only-binary :all: $(LOWEST) --group edge-test
	.venv-lowest/$(BIN)/$(PIP_INSTALL) --no-deps --editable .
	@touch $@

test-lowest: .venv-lowest/installed ## the tests of the runtime with the oldest packages that pyproject.toml allows (Python 3.11)
	.venv-lowest/$(BIN)/python -m pytest $(EDGE_TESTS)

test-edge: .venv-edge/installed ## the tests of the runtime alone, on any platform
	.venv-edge/$(BIN)/python -m pytest $(EDGE_TESTS)

# Everything: TensorFlow, the exporter, the tools, and the runtime's wheels for the test of the installed package.
.venv-dev/installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv-dev
	.venv-dev/$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(LOCK)
	.venv-dev/$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# What a machine without network needs: ms-edge and its wheels for these Pythons, on x86-64 and arm64 Linux.
build/wheelhouse/filled: pyproject.toml $(RUNTIME_LOCK)
	for python in $(PYTHONS); do for machine in x86_64 aarch64; do \
		$(PYTHON) -m pip download --quiet --disable-pip-version-check --dest build/wheelhouse --require-hashes \
			--only-binary :all: --python-version $$python \
			--platform manylinux_2_28_$$machine --platform manylinux_2_27_$$machine --platform manylinux_2_17_$$machine \
			--platform manylinux2014_$$machine \
			--requirement $(RUNTIME_LOCK) || exit 1; \
	done; done
	@touch $@

wheelhouse: build/wheelhouse/filled ## all wheels of ms-edge[cpu] in build/wheelhouse, to install without network (PYTHONS="3.11 3.12 3.13")
	rm -f build/wheelhouse/ms_edge-*.whl
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheelhouse .

# The oldest onnxruntime, in which model files must load.
.venv-oldest/installed: tests/export/oldest-onnxruntime.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement $<
	@touch $@

# One worker more than cores, since some tests wait, but at most four, since each holds a TensorFlow (up to
# 2.5 GB), which needs no second thread then. A worker gets whole files, since fixtures are costly.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
IN_PARALLEL = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
test test-slow: export TF_NUM_INTRAOP_THREADS := 1
test test-slow: export TF_NUM_INTEROP_THREADS := 1
test: .venv-dev/installed .venv-oldest/installed ## all tests except the slow ones (about five minutes on two cores)
	.venv-dev/$(BIN)/python -m pytest $(IN_PARALLEL) -m 'not slow and not browser and not live'

test-slow: .venv-dev/installed build/wheelhouse/filled ## the other tests: they train, convert, install, start clusters, or wait (about a quarter of an hour)
	.venv-dev/$(BIN)/python -m pytest $(IN_PARALLEL) -m 'slow and not nightly'

parity: .venv-dev/installed ## the whole parity grid, and cut files of all formats, of which the tests take a part (half an hour)
	.venv-dev/$(BIN)/python -m pytest --everything tests/export/test_parity.py tests/export/test_train_export_classify.py tests/test_completeness.py

# The runtime and atheris, which has wheels for Linux on x86-64 alone.
.venv-fuzz/installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/$(BIN)/$(PIP_INSTALL) --upgrade 'pip>=25.1'  # reads dependency groups
	sed -e '/--hash/d' -e 's/ *\\$$//' $(LOCK) > .venv-fuzz/constraints.txt
	.venv-fuzz/$(BIN)/$(PIP_INSTALL) --constraint .venv-fuzz/constraints.txt --editable '.[cpu]' --group fuzz
	@touch $@

# A finding of one part does not keep the other parts from running.
fuzz: .venv-dev/installed .venv-oldest/installed .venv-fuzz/installed ## random inputs for a night: changed recordings and models, parsers, Hypothesis tests (FUZZ_INPUTS, FUZZ_MODELS, FUZZ_S, FUZZ_SEED)
	status=0; \
	for environment in .venv-oldest .venv-dev; do \
		PYTHONPATH=edge $$environment/$(BIN)/python tests/fuzz/models.py --inputs $(FUZZ_MODELS) --jobs $(FUZZ_JOBS) --seed $(FUZZ_SEED) || status=1; \
	done; \
	.venv-dev/$(BIN)/python tests/fuzz/decoders.py --inputs $(FUZZ_INPUTS) --jobs $(FUZZ_JOBS) --seed $(FUZZ_SEED) || status=1; \
	.venv-fuzz/$(BIN)/python tests/fuzz/parsers.py --seconds $(FUZZ_S) || status=1; \
	.venv-dev/$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 -m hypothesis --hypothesis-profile nightly || status=1; \
	exit $$status

# On other processors and packages; needs mmdebstrap, proot and qemu-user-static.
test-arm64: .venv-dev/installed ## the tests of the runtime on emulated 64-bit ARM; its scores are compared with this machine's
	.venv-dev/$(BIN)/python tests/platforms.py arm64

test-armhf: .venv-dev/installed ## the same on emulated 32-bit ARM, with Debian's packages
	.venv-dev/$(BIN)/python tests/platforms.py armhf

test-newest: .venv-dev/installed ## the tests of the runtime on Debian 13 with Python 3.13 and the newest packages
	.venv-dev/$(BIN)/python tests/platforms.py newest

faults: .venv-dev/installed ## run ms-edge while system calls fail, at most FAULTS times (Linux)
	.venv-dev/$(BIN)/python tests/faults/faults.py --runs $(FAULTS)

endurance: .venv-dev/installed ## 500 hours of streamed audio, of which `make test-slow` takes 8 (half an hour)
	.venv-dev/$(BIN)/python -m pytest --everything tests/edge/test_endurance.py

nightly: parity fuzz faults endurance test-arm64 test-armhf test-newest ## the tests that take too long for every change: parity, fuzz, faults, endurance and other platforms

# What the examples in other languages need: onnxruntime for JavaScript, without the scripts of its packages,
# and the header of its C API.
build/examples/installed: .venv-dev/installed docs/examples/package.json docs/examples/header.py
	mkdir -p build/examples
	cp docs/examples/package.json build/examples
	cd build/examples && npm install --no-package-lock --no-audit --no-fund --ignore-scripts
	.venv-dev/$(BIN)/python docs/examples/header.py build/examples
	@touch $@

test-examples: .venv-dev/installed build/examples/installed ## a waveform model in JavaScript and C (needs node 20 or newer, npm, cc, apt-get)
	.venv-dev/$(BIN)/python -m pytest docs/examples/test_examples.py

# npm_package NAME VERSION SHA512: fetch a package of npm into build/NAME-VERSION/package. The digest is
# that of its `integrity` there, in hexadecimal. Nothing of the package runs.
define npm_package
	@command -v npm > /dev/null || { echo "$@ comes from npm (of Node.js), which is not installed." >&2; exit 1; }
	mkdir -p build/$(1)-$(2)
	cd build/$(1)-$(2) && npm pack --silent $(1)@$(2)
	cd build/$(1)-$(2) && echo "$(3)  $(1)-$(2).tgz" | sha512sum --check --quiet
	tar -xzf build/$(1)-$(2)/$(1)-$(2).tgz -C build/$(1)-$(2)
endef

# wavesurfer.js (BSD-3-Clause), which the pages of `ms-edge report` play with.
WAVESURFER := 8.0.1
WAVESURFER_SHA512 := 8743a74564954ea2182d2c37fc856b06db2e9ffc70f4be6ee050376e37d20d314c5ffc6cc15592d49c0ae1f16edee966c515121e0f3340e465eb310d1bdf377a
ASSETS := edge/ms_edge/report/assets

$(ASSETS)/wavesurfer.min.js: Makefile
	$(call npm_package,wavesurfer.js,$(WAVESURFER),$(WAVESURFER_SHA512))
	mkdir -p $(ASSETS)
	cd build/wavesurfer.js-$(WAVESURFER)/package && cp LICENSE package.json dist/plugins/regions.min.js $(CURDIR)/$(ASSETS)
	cp build/wavesurfer.js-$(WAVESURFER)/package/dist/wavesurfer.min.js $@

report-assets: $(ASSETS)/wavesurfer.min.js ## fetch wavesurfer.js, with which reports play; without it they have a plain player (needs npm)

# onnxruntime-web (MIT), with which a page of the documentation site classifies: WebAssembly for the CPU alone.
ORT_WEB := 1.30.0
ORT_WEB_SHA512 := ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61

build/onnxruntime-web/ort.wasm.bundle.min.mjs: Makefile
	$(call npm_package,onnxruntime-web,$(ORT_WEB),$(ORT_WEB_SHA512))
	mkdir -p build/onnxruntime-web
	cp build/onnxruntime-web-$(ORT_WEB)/package/dist/ort-wasm-simd-threaded.wasm build/onnxruntime-web
	cp build/onnxruntime-web-$(ORT_WEB)/package/dist/ort.wasm.bundle.min.mjs $@
	rm -r build/onnxruntime-web-$(ORT_WEB)

site-assets: report-assets build/onnxruntime-web/ort.wasm.bundle.min.mjs ## fetch onnxruntime-web too, with which the documentation site classifies in the browser (needs npm)

# Debian's Chromium, since the browsers that playwright downloads come from a server of their own.
test-browser: .venv-dev/installed site-assets ## pages of `ms-edge report`, and the one that classifies, in Chromium (Debian; needs npm)
	@test -x /usr/bin/chromium || { apt-get -q update && apt-get -q install --yes --no-install-recommends chromium; }
	.venv-dev/$(BIN)/python -m pytest -m browser tests/browser

test-live: .venv-dev/installed ## ms-edge monitor listens to a real Icecast server (Debian)
	@test -x /usr/bin/icecast2 || { apt-get -q update && apt-get -q install --yes --no-install-recommends icecast2; }
	.venv-dev/$(BIN)/python -m pytest --numprocesses 4 -m live tests/live

check: .venv-dev/installed ## lint and types
	.venv-dev/$(BIN)/ruff check
	.venv-dev/$(BIN)/ruff format --check
	.venv-dev/$(BIN)/mypy --strict edge/ export/ train/

model: .venv-dev/installed ## rebuild the bundled models from freely licensed audio (fetches about 16 GB; needs fluidsynth)
	.venv-dev/$(BIN)/ms-train data fetch open-corpus --to $(DATA)
	rm -rf build/model
	.venv-dev/$(BIN)/ms-train fit --recipe mel_residual --data open-corpus:$(DATA) --out build/model
	rm -rf build/level
	.venv-dev/$(BIN)/ms-train level build/model --data open-corpus:$(DATA) --out build/level
	$(MAKE) model-files RUN=build/level
	rm -rf build/large
	.venv-dev/$(BIN)/ms-train fit --recipe mel_pair --data open-corpus:$(DATA) --out build/large
	$(MAKE) large-files RUN=build/large

model-files: .venv-dev/installed ## write all files of the bundled model from the run folder RUN, with its recordings where it says
	.venv-dev/$(BIN)/python -m ms_train.training.package $(RUN)
	.venv-dev/$(BIN)/ms-export convert $(RUN) -o $(MODELS)/music-speech.onnx --license MIT
	.venv-dev/$(BIN)/ms-export convert $(RUN) -o $(MODELS)/music-speech-waveform.onnx --license MIT --input waveform
	.venv-dev/$(BIN)/ms-export convert $(RUN) -o $(MODELS)/music-speech-level.onnx --license MIT --level

large-files: .venv-dev/installed ## write all files of the large model from the run folder RUN of mel_pair
	.venv-dev/$(BIN)/python -m ms_train.training.package $(RUN)
	.venv-dev/$(BIN)/ms-export convert $(RUN) -o $(MODELS)/music-speech-large.onnx --license 'MIT AND Apache-2.0'

bench: .venv-dev/installed ## measure the speed of ms-edge and of other systems, into build/bench (BENCH="--quick", "--no-peers", "--against OLD.json")
	PYTHONPATH=. .venv-dev/$(BIN)/python -m benchmarks.speed -o build/bench $(BENCH)

bench-docs: .venv-dev/installed ## write docs/benchmarks.md from the result of `make bench` (JSON=FILE)
	PYTHONPATH=. .venv-dev/$(BIN)/python -m benchmarks.speed.report $(JSON) --docs

bench-check: .venv-dev/installed ## compare the counts of the hot path with benchmarks/speed/baseline.json (a minute with valgrind)
	PYTHONPATH=. .venv-dev/$(BIN)/python -m benchmarks.speed.regression

bench-baseline: .venv-dev/installed ## store the counts of the hot path as the new baseline
	PYTHONPATH=. .venv-dev/$(BIN)/python -m benchmarks.speed.regression --update

docs: .venv-dev/installed ## update what README and docs/ show of the program
	.venv-dev/$(BIN)/python docs/refresh.py

# Without npm, the page that needs it says that the site was built without it.
docs-site: .venv-dev/installed ## build the documentation site in build/docs-site (a warning is an error)
	@$(MAKE) --question site-assets 2> /dev/null || if npm view onnxruntime-web@$(ORT_WEB) version > /dev/null 2>&1; \
		then $(MAKE) site-assets; \
		else echo "NOT RUN: docs/try.md is built without onnxruntime-web, because npm cannot be reached"; fi
	.venv-dev/$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs-site

lock: ## write the three locks again, with hashes (needs uv)
	uv lock --quiet --upgrade
	uv export $(EXPORT) --no-default-groups --extra cpu --output-file $(RUNTIME_LOCK)
	uv export $(EXPORT) --only-group build --output-file $(BUILD_LOCK)
	uv export $(EXPORT) --group dev --output-file $(LOCK)
	rm uv.lock

# hatchling alone, by its lock. The wheel is built of the source distribution, as a user's pip does.
build/venv-dist/installed: $(BUILD_LOCK)
	$(PYTHON) -m venv build/venv-dist
	build/venv-dist/$(BIN)/$(PIP_INSTALL) --require-hashes --requirement $(BUILD_LOCK)
	@touch $@

dist: build/venv-dist/installed $(ASSETS)/wavesurfer.min.js ## build the source distribution and the wheel, with its SBOM, in dist/
	rm -rf dist build/sdist
	build/venv-dist/$(BIN)/python -m hatchling build --target sdist --directory dist
	mkdir -p build/sdist
	tar -xzf dist/*.tar.gz --strip-components 1 -C build/sdist
	cd build/sdist && ../venv-dist/$(BIN)/python -m hatchling build --target wheel --directory ../../dist

clean: ## remove environments and build products
	rm -rf $(ASSETS) .venv .venv-edge .venv-lowest .venv-dev .venv-oldest .venv-fuzz build dist .pytest_cache .mypy_cache .ruff_cache
