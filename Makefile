# The verbs of the project. Each sets up what it needs first; `make` alone lists them.
SHELL := /bin/bash
# work/uv holds uv where the machine has none; see envs/setup.sh.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/work/uv/bin
CORES ?= 2
STUDY ?= demo
DEVICE ?= H100

.DEFAULT_GOAL := help
.PHONY: help setup demo quick all plan test check format bench report verify docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the locked environment in .venv; nothing again if it is there
	@envs/setup.sh

demo: override STUDY := demo
demo: all ## the demo study from data to report, then its verdict and leaderboards

quick: override STUDY := quick
quick: all ## two minutes: MAE beside an untrained and a supervised encoder, with the whole report

all: setup ## any study from data to report: make all STUDY=demo
	@[ -t 2 ] && progress="--logger=rich" || progress="--quiet rules reason"; \
	snakemake --cores $(CORES) --configfile=config/$(STUDY).yaml $$progress -- all
	@cat reports/$(STUDY)/summary.txt
	@echo "Report: $(CURDIR)/reports/$(STUDY)/index.html"

plan: setup ## what a study costs before it is run: make plan STUDY=paper DEVICE=A100 ARGS="--budget 500"
	@python -m stages.cost --study config/$(STUDY).yaml --device "$(DEVICE)" $(ARGS)

# Each worker keeps to one core: two that each think they have all of them wait for one another.
test: export OMP_NUM_THREADS = 1
test: setup ## the tests; those that need Slurm or a browser are skipped where there is none
	@python -m pytest -n $(CORES) --dist worksteal $(ARGS)

check: setup ## formatting, lint, workflow lint, types, spelling
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile
	snakemake --lint
	mypy
	codespell
	python -m stages.plan --study config/demo.yaml --check

format: setup ## put code and workflow into their format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile

# The C library would give the memory of each step back and fault it in again: up to a third of a step, and noisy.
bench: export MALLOC_MMAP_MAX_ = 0
bench: export MALLOC_TRIM_THRESHOLD_ = 100000000000
bench: setup ## throughput against a plain reference, and each method's step against its arithmetic
	python -m benchmarks

report: setup ## rebuild a study's report from its records: make report STUDY=demo
	python -m stages.report --study config/$(STUDY).yaml

verify: setup ## run cells again and compare: make verify CELL=knn/mae-0; without CELL, five drawn at random
	@python -m stages.verify --study config/$(STUDY).yaml $(CELL)

docs: export NO_MKDOCS_2_WARNING = 1
docs: setup ## build the documentation into work/site, its links checked
	@python -m mkdocs build --strict
	@echo "Documentation: $(CURDIR)/work/site/index.html"

lock: setup ## resolve pyproject.toml into envs/requirements.lock: make lock ARGS=--upgrade renews all of it
	uv pip compile --quiet --generate-hashes --python-version 3.11 --extra dev --no-header $(ARGS) \
		--output-file envs/requirements.lock pyproject.toml

clean: export STUDY := $(STUDY)
clean: ## remove what one study computed: make clean STUDY=demo; data, environment and other studies stay
	@[[ "$$STUDY" =~ ^[A-Za-z0-9][A-Za-z0-9_-]*$$ && ! "$$STUDY" =~ ^(templates|data|slurm|uv)$$ ]] || \
	{ echo "error: STUDY is '$$STUDY'; expected the name of a study, such as demo. Nothing was removed" >&2; exit 1; }
	rm -rf -- "results/$$STUDY" "work/$$STUDY" "logs/$$STUDY" "reports/$$STUDY"
	rm -rf .pytest_cache .ruff_cache .mypy_cache
