# make demo    diagnose the sample case with the light runtime (no torch); writes build/demo/
# make test    lint, then every test, with the training stack
# make lint    ruff
# make bench   speed and memory beside a plain torch pipeline; writes build/bench/results.json
# make lock    resolve the dependencies again (network)
# make clean   remove build/
#
# Each command makes the environments that it needs under build/. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
RUNTIME = build/runtime/bin
TRAINING = build/training/bin
TOOLS = build/tools/bin
PYTEST_ARGUMENTS ?=

.PHONY: demo test lint bench lock clean runtime training tools

demo: runtime
	@$(RUNTIME)/pediatric-liver-dx diagnose Resources/SampleCase -o build/demo

test: lint training
	OMP_NUM_THREADS=1 $(TRAINING)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGUMENTS)

lint: tools
	$(TOOLS)/ruff check .

bench: runtime training
	@$(TRAINING)/python Testing/bench

runtime training tools:
	@$(PYTHON) tools/environment.py $@

# slicer-core stays on the newest Slicer release, so that scenes open there. Its vtk asks for matplotlib, which nothing here draws with;
# ultralytics asks for an OpenCV that needs a desktop, and works with the headless one.
COMPILE = $(TOOLS)/python -m uv pip compile --universal --python-version 3.10 --upgrade --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --quiet --constraint build/constraints.txt --override build/overrides.txt
lock: tools
	printf 'slicer-core<5.13\n' > build/constraints.txt
	printf 'matplotlib ; python_version < "3"\n' > build/overrides.txt
	$(COMPILE) pyproject.toml --extra scene -o requirements.lock
	printf 'opencv-python ; python_version < "3"\n' > build/overrides.txt
	$(COMPILE) pyproject.toml --extra scene --extra training --extra test -o requirements-training.lock
	printf 'ruff\nuv\n' | $(COMPILE) - -o requirements-tools.lock

clean:
	rm -rf build
