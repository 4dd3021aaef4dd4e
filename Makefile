# `make demo` and `make test` are all you need; `make help` lists the rest. `make PYTHON=python3.12 test` picks a Python.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# A test process for each core, each with one thread; a file stays in one process, and so do the runs that it trains.
# Compiled Python is kept, since what the tests start would compile it again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

.PHONY: help demo test test-fast test-all campaign lint bench bench-2d bench-lgg bench-busi bench-hippocampus bench-camvid
.PHONY: bench-nnunet bench-channels bench-finetune bundles gpu-check clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 20

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing medseg into .venv (once; a few minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,fast,pretrained]'
	@touch $@

demo: $(READY)  ## train, evaluate and review a segmentation of synthetic brain tumours (3 minutes on 2 cores)
	@$(BIN)/medseg demo

test: $(READY)  ## run the test suite (8 minutes on 2 cores)
	@$(PYTEST) -m 'not campaign'

test-fast: $(READY)  ## run the tests that are quick (90 seconds on 2 cores)
	@$(PYTEST) -m 'not slow and not campaign'

test-all: $(READY)  ## run the test suite and its campaigns (30 minutes on 2 cores)
	@$(PYTEST)

SEED = 0
campaign: $(READY)  ## damaged files, flipped bits, kills, full disks, injected names: docs/reliability.md (10 minutes; FULL=1: all)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m tests.campaign --seed $(SEED) $(if $(FULL),--full)

lint: $(READY)  ## style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY)  ## measure the figures of docs/benchmarks.md (60 minutes; what lacks a peer says what to install)
	@for script in step_time roofline predict_time crf_time score_time composite_rate hippocampus; do $(BIN)/python tests/bench/$$script.py || test $$? -eq 2; done

bench-2d: $(READY)  ## training steps in 2D against torchvision and segmentation-models-pytorch
	@$(BIN)/python tests/bench/train_step_2d.py

# These go on where they stopped, piece by piece; `make bench-lgg UNTIL=23:30` begins none after that time of day.
SITTING = $(if $(UNTIL),--until $(UNTIL))

bench-lgg: $(READY)  ## LGG planned by medseg: fold 0 in 15 minutes, five folds in 30 each (4 hours)
	@$(BIN)/python tests/bench/folds.py LGG --minutes 15 --folds 0 $(SITTING)
	@$(BIN)/python tests/bench/folds.py LGG --minutes 30 $(SITTING)

bench-busi: $(READY)  ## BUSI planned by medseg, five folds in 15 minutes each (2 hours)
	@$(BIN)/python tests/bench/folds.py BUSI --minutes 15 $(SITTING)

bench-hippocampus: $(READY)  ## hippocampus planned by medseg, five folds in 15 minutes each (90 minutes)
	@$(BIN)/python tests/bench/folds.py hippocampus --minutes 15 $(SITTING)

bench-camvid: $(READY)  ## CamVid planned by medseg, val after 30 minutes (40 minutes)
	@$(BIN)/python tests/bench/folds.py CamVid --minutes 30 $(SITTING)

DATA = LGG BUSI hippocampus BraTS2modal CamVid
MINUTES = 15
bench-nnunet: $(READY)  ## nnU-Net and medseg on the same cases for the same minutes (a day; DATA=LGG: one data set)
	@for data in $(DATA); do \
		$(BIN)/python tests/bench/nnunet.py $$data --minutes $(MINUTES) $(SITTING) || exit $$?; done

bench-channels: $(READY)  ## one network for any channels against one for each subset of them, on phantoms (hours)
	@$(BIN)/python tests/bench/missing_channels.py

bench-finetune: $(READY)  ## the second half of the hippocampi, from the start and from a run on the first (hours)
	@$(BIN)/python tests/bench/finetune.py

bundles: $(READY)  ## compile configs into bundles/
	@$(BIN)/medseg bundle --config hippocampus --output bundles/hippocampus_unet3d
	@$(BIN)/medseg bundle --config brain --output bundles/brain_tumour_unet3d
	@$(BIN)/medseg bundle --config brain_fpn --output bundles/brain_tumour_fpn3d
	@$(BIN)/medseg bundle --config brain_deeplabv3plus --output bundles/brain_tumour_deeplabv3plus3d

# A bare GPU machine has Python and PyTorch; whatever else is needed comes as wheels in .whl/, without a network.
gpu-check:  ## on a GPU machine: trainings, the tests that need one, its speed (less than 10 minutes)
	@if [ -d .whl ]; then $(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target .site .whl/*.whl; fi
	@PYTHONPATH=.site:. $(PYTHON) tests/bench/gpu_check.py

clean:  ## remove what the other commands made, except runs/
	@rm -rf .venv .site build dist .pytest_cache .ruff_cache .mypy_cache
	@find medseg tests -name __pycache__ -type d -prune -exec rm -rf {} +
