# `make demo` and `make test` are all you need; `make help` lists the rest. `make PYTHON=python3.12 test` picks a Python.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# A test process for each core, each with one thread; a file stays in one process, and so do the runs that it trains.
# Compiled Python is kept, since what the tests start would compile it again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

.PHONY: help demo test test-fast test-all lint bench bench-2d bench-nnunet bundles gpu-check clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing medseg into .venv (once; a few minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## train, evaluate and review a segmentation of synthetic brain tumours (3 minutes on 2 cores)
	@$(BIN)/medseg demo

test: $(READY)  ## run the test suite (8 minutes on 2 cores)
	@$(PYTEST) -m 'not campaign'

test-fast: $(READY)  ## run the tests that are quick (90 seconds on 2 cores)
	@$(PYTEST) -m 'not slow and not campaign'

test-all: $(READY)  ## run the test suite and its campaigns (30 minutes on 2 cores)
	@$(PYTEST)

lint: $(READY)  ## style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY)  ## measure the figures of docs/benchmarks.md (45 minutes; what lacks a peer says what to install)
	@for script in step_time crf_time score_time composite_rate hippocampus; do $(BIN)/python tests/bench/$$script.py || test $$? -eq 2; done

bench-2d: $(READY)  ## training steps in 2D against torchvision and segmentation-models-pytorch
	@$(BIN)/python tests/bench/train_step_2d.py

bench-nnunet: $(READY)  ## nnU-Net and medseg on the same cases for the same minutes (3 hours)
	@$(BIN)/python tests/bench/nnunet.py

bundles: $(READY)  ## compile configs into bundles/
	@$(BIN)/medseg bundle --config hippocampus --output bundles/hippocampus_unet3d
	@$(BIN)/medseg bundle --config brain --output bundles/brain_tumour_unet3d
	@$(BIN)/medseg bundle --config brain_fpn --output bundles/brain_tumour_fpn3d
	@$(BIN)/medseg bundle --config brain_deeplabv3plus --output bundles/brain_tumour_deeplabv3plus3d

# A bare GPU machine has Python and PyTorch; whatever else is needed comes as wheels in .whl/, without a network.
gpu-check:  ## on a GPU machine: the tests that need one, then its speed
	@if [ -d .whl ]; then $(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target .site .whl/*.whl; fi
	@PYTHONPATH=.site:. $(PYTHON) -m pytest -m gpu $$(grep -rl 'mark[.]gpu' tests --include='test_*.py')
	@PYTHONPATH=.site:. $(PYTHON) tests/bench/gpu.py

clean:  ## remove what the other commands made, except runs/
	@rm -rf .venv .site build dist .pytest_cache .ruff_cache .mypy_cache
	@find medseg tests -name __pycache__ -type d -prune -exec rm -rf {} +
