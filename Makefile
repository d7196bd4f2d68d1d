# Everything a person types here: `make demo` and `make test`; the rest serves those who change the code.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
WORK   ?= work
RESULTS = checkpoints/tabletop/evaluation
TASK_RESULTS = checkpoints/tabletop_tasks/evaluation

# Small models are fastest on one thread; thread pools that spin would starve the other nodes.
export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-slow check format type checkpoint evaluate checkpoint-flow checkpoint-tasks evaluate-tasks clean

help:
	@echo "make demo        a simulated arm follows instructions (sets up $(VENV) first)"
	@echo "make test        lint, types and all tests (sets up $(VENV) first)"
	@echo "make test-fast   the tests only;   make test-slow   those of minutes"
	@echo "make check       lint and types;   make format      rewrite the formatting"
	@echo "make checkpoint  make the shipped checkpoints again from nothing (under an hour)"
	@echo "make evaluate    measure the shipped policy and write the figures into the docs (an hour)"
	@echo "make checkpoint-flow  a policy whose head draws its chunks, for strategy rtc (half an hour)"
	@echo "make checkpoint-tasks, make evaluate-tasks   the same for the policy of all tasks"

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.txt setup.py setup.cfg ros2_lite/pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/setup.sh
	@touch $@

demo: setup
	. $(VENV)/bin/activate && exec ros2 launch robovlm_ros policy.launch.py demo:=true

test: check test-fast

# Much of a test's time is waiting for other processes: two at a time, each file by one.
test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow --timeout 3600

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

type: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

checkpoint: setup
	rm -rf $(WORK)/tabletop_vlm $(WORK)/episodes $(WORK)/tabletop  # from nothing: what an earlier run left would mix in
	$(BIN)/pretrain --output $(WORK)/tabletop_vlm
	$(BIN)/collect --output $(WORK)/episodes --episodes 1600 --workers 2
	$(BIN)/finetune --config tabletop --base $(WORK)/tabletop_vlm --episodes $(WORK)/episodes --output $(WORK)/tabletop
	@echo "made $(WORK)/tabletop_vlm and $(WORK)/tabletop; copy them to checkpoints/ to ship them"

checkpoint-flow: setup
	test -d $(WORK)/episodes || $(BIN)/collect --output $(WORK)/episodes --episodes 1600 --workers 2
	$(BIN)/finetune --config tabletop_flow --base checkpoints/tabletop_vlm --episodes $(WORK)/episodes --output $(WORK)/tabletop_flow

evaluate: setup
	for seed in 1 2 3; do \
		$(BIN)/evaluate --episodes 100 --seed $$seed --reactions 20 --json $(RESULTS)/realtime_$$seed.json && \
		$(BIN)/evaluate --episodes 100 --seed $$seed --lockstep --json $(RESULTS)/lockstep_$$seed.json || exit 1; \
	done
	$(BIN)/python tools/figures.py
	$(BIN)/evaluate --episodes 5 --seed 9 --lockstep --no-control --video docs/tabletop.gif

SHOW = $(BIN)/collect --pads 2 --noise 0.006 --workers 2

checkpoint-tasks: setup
	rm -rf $(WORK)/tabletop_tasks_vlm $(WORK)/tasks $(WORK)/tabletop_tasks
	$(BIN)/pretrain --output $(WORK)/tabletop_tasks_vlm --pads 0.8 --questions 4 --scenes 48000 --steps 6000
	$(SHOW) --output $(WORK)/tasks/reach --task reach --episodes 400
	$(SHOW) --output $(WORK)/tasks/push --task push --episodes 408 --recoveries 0.4  # 3 of them fail
	$(SHOW) --output $(WORK)/tasks/lift --task lift --episodes 400 --recoveries 0.4
	$(SHOW) --output $(WORK)/tasks/put --task put --episodes 400
	$(BIN)/finetune --config tabletop_tasks --base $(WORK)/tabletop_tasks_vlm --output $(WORK)/tabletop_tasks \
		--episodes $(WORK)/tasks/reach $(WORK)/tasks/push $(WORK)/tasks/lift $(WORK)/tasks/put
	@echo "made $(WORK)/tabletop_tasks_vlm and $(WORK)/tabletop_tasks; copy them to checkpoints/ to ship them"

evaluate-tasks: setup
	$(BIN)/evaluate --checkpoint tabletop_tasks --task all --episodes 50 --seed 1 --no-control --json $(TASK_RESULTS)/realtime_1.json
	$(BIN)/evaluate --checkpoint tabletop_tasks --task all --episodes 50 --seed 1 --lockstep --json $(TASK_RESULTS)/lockstep_1.json
	$(BIN)/evaluate --checkpoint tabletop_tasks --task all --episodes 50 --seed 1 --lockstep --held-out --no-control \
		--json $(TASK_RESULTS)/lockstep_held_out_1.json
	$(BIN)/python tools/figures.py
	$(BIN)/evaluate --checkpoint tabletop_tasks --task all --episodes 1 --seed 9 --lockstep --no-control --video docs/tasks.gif

clean:
	rm -rf $(WORK) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
