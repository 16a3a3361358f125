# Everything runs in .venv, which `make` sets up by itself on a machine with Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# make demo DATA="dir1 dir2 dir3" CASES=24 SIZE=64 PRESET=fast
DATA ?=
CASES ?=
SIZE ?=
GENERATOR ?=
PRESET ?=
STEPS ?=
OUT ?= build/demo
# make bench NAME=singan
NAME ?=
SEEDS ?=
SIZES ?=
PARTS ?=
SHARE ?=
FOLDS ?=
# make fuzz MINUTES=10
MINUTES ?= 1
STYLE_WEIGHTS ?=
SITES ?=
RUNS ?=
option = $(if $(2),--$(1) $(2))

.PHONY: install demo test lint bench fuzz format proto digests offline clean

install: $(STAMP)

# What the lists name has its digest checked; torch and torchvision, of which every index has its own builds, the version.
DIGESTS := $(addprefix deploy/digests/,synthward.txt extras.txt development.txt)

$(STAMP): pyproject.toml constraints.txt $(DIGESTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Synthward needs Python 3.11 to 3.13; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes $(addprefix --requirement ,$(DIGESTS))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/python -m deploy.demo $(call option,data,$(DATA)) $(call option,cases,$(CASES)) $(call option,size,$(SIZE)) $(call option,generator,$(GENERATOR)) $(call option,preset,$(PRESET)) $(call option,steps,$(STEPS)) --out $(OUT)

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# make bench NAME=demo: long figures, written to build/bench/NAME.json and printed as a table.
# make bench NAME=singan DATA=dir CASES=200 SEEDS=3 SIZES=64,128 PARTS=timing,worker,real,per_case,cohort SHARE=0.05
# make bench NAME=screening DATA=dir SIZES=256,128,64 PARTS=controls,cost
# make bench NAME=dp DATA=dir CASES=100,200,400 SIZES=96 SEEDS=3 PARTS=step,audit,real,prior,cohort,private,scratch
# make bench NAME=utility DATA="dir1 dir2" CASES=250 SIZES=96 SEEDS=3 FOLDS=1 PARTS=main,plain,per_case,style,few,fedavg,memory STYLE_WEIGHTS=file
# make bench NAME=ingest SITES=100 CASES=400 SIZES=256 RUNS=3 PARTS=throughput,memory,sites
# make bench NAME=federation SITES=3,10,30 RUNS=1
bench: install
	$(BIN)/python -m tests.benchmarks $(NAME) $(call option,data,$(DATA)) $(call option,cases,$(CASES)) $(call option,seeds,$(SEEDS)) $(call option,sizes,$(SIZES)) $(call option,parts,$(PARTS)) $(call option,share,$(SHARE)) $(call option,folds,$(FOLDS)) $(call option,style-weights,$(STYLE_WEIGHTS)) $(call option,preset,$(PRESET)) $(call option,steps,$(STEPS)) $(call option,sites,$(SITES)) $(call option,runs,$(RUNS))

# Needs the extra fuzz: .venv/bin/python -m pip install -c constraints.txt -e '.[fuzz]'
fuzz: install
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The generated files are committed; tests/contract checks that they are those of the .proto file.
proto: install
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. shared/wire/synthward.proto

# After a change of constraints.txt. pip-tools asks the index that pip is set to.
digests: install
	$(PYTHON) -m venv build/digests
	build/digests/bin/python -m pip install --quiet --disable-pip-version-check pip==26.3 pip-tools==7.6.2
	$(BIN)/python -m deploy.digests build/digests/bin/pip-compile

# Fetches half a gigabyte, or several with CUDA; then installs it as deploy/wheelhouse.md says, and uses it, without a network.
offline: install
	rm -rf build/wheelhouse build/offline
	PYTHON=$(BIN)/python deploy/wheelhouse.sh build/wheelhouse
	$(BIN)/python -m tests.end_to_end.offline build/wheelhouse build/offline
	rm -rf build/wheelhouse build/offline

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
