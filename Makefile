# `make` alone prints what there is to do. A target with a text after ## is listed under the ##@ section above it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/operator/bin
# The tools' caches lie with all else that can be made again.
export RUFF_CACHE_DIR := .lakehouse/cache/ruff
export MYPY_CACHE_DIR := .lakehouse/cache/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := .lakehouse/cache/hypothesis

##@ Use

.PHONY: demo
demo: setup ## Run the pipeline on this machine (EVENTS=1000000: so many events, KEEP=1: leave it up)
	@exec $(BIN)/lakehouse demo $(if $(EVENTS),--events '$(EVENTS)') $(if $(filter-out 0 no false,$(KEEP)),--keep)

.PHONY: down
down: ## Stop what KEEP=1 left up
	@if [ -d .lakehouse/demo ] && [ -x $(BIN)/lakehouse ]; then $(BIN)/lakehouse local down demo; fi

##@ Develop

.PHONY: test
test: setup check control-plane ## Check and test everything (PARTS='flink spark': only these, OPTIONS='-x': for pytest)
	@exec $(BIN)/python setup/run_tests.py $(PARTS) --options='$(OPTIONS)'

.PHONY: control-plane
control-plane: setup ## Build the API server that the tests run against (once; then it is cached)
	@$(BIN)/python setup/go.py
	@$(BIN)/python setup/control_plane.py
	@$(BIN)/python setup/helm_program.py
	@$(BIN)/python setup/catalog_programs.py

.PHONY: check
check: setup ## Check style, types, imports between rooms, and that generated files are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=setup $(BIN)/mypy setup
	$(BIN)/lint-imports --cache-dir .lakehouse/cache/import-linter
	$(BIN)/python setup/lock_jars.py --check
	$(BIN)/python -m lakehouse_operator.api.crd --check
	$(BIN)/python -m lakehouse_operator.commands.reference --check

.PHONY: format
format: setup ## Format the code, and mend what ruff can mend by itself
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: generate
generate: setup ## Make CRDs, reference pages and golden manifests anew; look at the difference before you commit it
	$(BIN)/python -m lakehouse_operator.api.crd --write
	cp crds/*.yaml helm/lakehouse-operator/files/crds/
	cp examples/roman-numerals.yaml helm/lakehouse-sample/files/
	$(BIN)/python -m lakehouse_operator.commands.reference --write
	PYTHONPATH=tests $(BIN)/python tests/planning/golden.py --write

.PHONY: bench-bronze
bench-bronze: setup ## Measure bronze: catch-up throughput, and where the time goes
	.venv/flink/bin/python -W ignore -m benchmarks.bronze $(if $(EVENTS),--events '$(EVENTS)')

.PHONY: bench-contenders
bench-contenders: setup bench-jars ## Measure bronze against Spark's streams and Iceberg's Kafka Connect sink (EVENTS=1000000)
	.venv/flink/bin/python -W ignore -m benchmarks.bronze.contenders $(if $(EVENTS),--events '$(EVENTS)')

.PHONY: bench-latency
bench-latency: setup bench-jars ## Measure how long an event takes into the table, for the same three (RATE=500)
	.venv/flink/bin/python -W ignore -m benchmarks.bronze.latency $(if $(RATE),--rate '$(RATE)')

.PHONY: bench-state
bench-state: setup ## Measure bronze's state and its checkpoints (KEYS=10000000)
	.venv/flink/bin/python -W ignore -m benchmarks.state $(if $(KEYS),--keys '$(KEYS)')

.PHONY: bench-batch
bench-batch: setup ## Measure silver, gold and backfills as the history grows (ROWS=2500 a day)
	PYTHONPATH=.:jobs:operator .venv/spark/bin/python -W ignore -m benchmarks.batch $(if $(ROWS),--rows '$(ROWS)')

.PHONY: bench-operator
bench-operator: setup control-plane ## Measure the operator: latency, requests, CPU and memory (PIPELINES=1000)
	$(BIN)/python -m benchmarks.operator $(if $(PIPELINES),--pipelines '$(PIPELINES)')

.PHONY: bench-chaos
bench-chaos: setup ## Kill the engines again and again, and prove that nothing is lost (SEED=1, KILLS=200)
	$(BIN)/python -m benchmarks.chaos $(if $(SEED),--seed '$(SEED)') $(if $(KILLS),--kills '$(KILLS)')

.PHONY: images
images: setup ## Build the images and archives of them for a test cluster (docs/images.md)
	@$(BIN)/python setup/go.py
	@$(BIN)/python setup/images.py

##@ Cluster

.PHONY: cluster-up
cluster-up: setup ## Make a Kubernetes cluster on this machine: with kind, or as root without Docker (docs/cluster.md)
	@$(BIN)/python setup/go.py
	@$(BIN)/python setup/cluster.py up

.PHONY: cluster-down
cluster-down: ## Remove the cluster
	@if [ -f .lakehouse/cluster/cluster.json ] && [ -x $(BIN)/python ]; then $(BIN)/python setup/cluster.py down; fi

##@ Maintain

.PHONY: setup
setup: ## Get Java, uv, the Python environments and the jars (each target does so by itself)
	@python="$$(setup/python.sh)" && exec "$$python" setup/prepare.py

.PHONY: bench-jars
bench-jars: setup ## Get the jars that only benchmarks need
	@for set in kafka-connect spark-kafka; do \
		$(BIN)/python setup/jars.py $$set --lock benchmarks/jars.lock --into .lakehouse/engines/$$set; done

.PHONY: lock
lock: setup ## Make uv.lock and the locks of the jars anew, after a change of versions (needs Maven)
	"$$($(BIN)/python setup/uv.py)" lock
	$(BIN)/python setup/lock_jars.py

.PHONY: clean
clean: down cluster-down ## Remove environments, engines, the demo's data and the cluster (downloads stay in ~/.cache)
	rm -rf .venv .lakehouse .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: help
help: ## Print this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
