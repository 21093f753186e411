# `make demo` and `make test` need nothing but Python >= 3.10: they make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin
RUN := logs/synthetic_vit_tiny
ROOMS := benchmarks common configs datasets deploy evaluation gallery labels loss model processor report solver tools tracking

.PHONY: demo test test-lowest test-wheel browser check docs format clean

demo: .venv/installed
	$(BIN)/python tools/train.py --config_file configs/synthetic/vit_tiny.yml --overwrite
	$(BIN)/python tools/test.py --weights $(RUN)/best.safetensors --calibrate 0.001
	$(BIN)/python tools/export.py --weights $(RUN)/best.safetensors --input synthetic:gallery --root data --output $(RUN)/gallery --overwrite --yes
	$(BIN)/python tools/search.py --gallery $(RUN)/gallery --weights $(RUN)/best.safetensors --topk 8 --sheet $(RUN)/search.png \
		--query $$(ls data/synthetic/query/*_c1s1_*.jpg | head -3)
	$(BIN)/python tools/report.py $(RUN)
	$(BIN)/vitreid film --output data/film
	$(BIN)/vitreid export --weights $(RUN)/best.safetensors --input data/film --boxes data/film/boxes.csv --recordings data/film/cameras.csv \
		--output $(RUN)/film --overwrite --yes
	$(BIN)/vitreid film --output data/film --gallery $(RUN)/film
	@echo "made: $(RUN)/ with the weights, report.html, the gallery, search.png and film/, the gallery of a film of three cameras; look around: $(BIN)/python tools/serve.py --gallery $(RUN)/gallery --weights $(RUN)/best.safetensors"

test: .venv/installed  # every test but those of a browser
	$(BIN)/python -m pytest -n 2

test-lowest: .venv/lowest/installed  # the same with each dependency at its lower bound in pyproject.toml
	.venv/lowest/bin/python -m pytest -n 2

test-wheel: .venv/installed  # the fast tests with the built wheel, from a folder outside the clone; other packages are those of .venv
	rm -rf .venv/wheel
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --outdir .venv/wheel/dist .
	$(BIN)/python -m venv --without-pip .venv/wheel/env
	$(BIN)/python -c "import sysconfig as s, pathlib as p; next(p.Path('.venv/wheel/env').glob('lib/python*/site-packages')).joinpath('shared.pth').write_text(s.get_path('purelib'))"
	$(BIN)/python -m pip --python .venv/wheel/env/bin/python install --quiet --no-deps .venv/wheel/dist/*.whl
	mkdir .venv/wheel/outside && cp -r tests pyproject.toml .venv/wheel/outside
	cd .venv/wheel/outside && PYTHONPATH= ../env/bin/python -m pytest -n 2 -m "not slow and not browser"

browser: .venv/installed  # the gallery's page and the report in a real browser; needs chromium
	$(BIN)/python -m pip install --quiet "playwright>=1.40" axe-playwright-python
	$(BIN)/python -m pytest -m browser tests/browser

check: .venv/installed  # lint, known insecure calls, types, fast tests: under two minutes on two cores
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -c pyproject.toml -r $(ROOMS)
	@mkdir -p .venv/checked && ln -sfn "$(CURDIR)" .venv/checked/vitreid  # under its own name, whatever the folder is called
	MYPYPATH=.venv/checked $(BIN)/mypy $(foreach room,$(ROOMS),-p vitreid.$(room))
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser"

docs: .venv/installed  # the pages of docs/, as a site
	$(BIN)/mkdocs build --strict
	@echo "made: site/index.html; while writing: $(BIN)/mkdocs serve"

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "vitreid needs Python >= 3.10, $(PYTHON) is older: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar off -e ".[dev]"
	@touch $@

# uv reads the bounds of pyproject.toml and takes the oldest release that each of them allows
.venv/lowest/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv/lowest
	.venv/lowest/bin/python -m pip install --quiet uv
	.venv/lowest/bin/uv pip install --quiet --python .venv/lowest/bin/python --resolution lowest-direct -r pyproject.toml --extra test
	.venv/lowest/bin/uv pip install --quiet --python .venv/lowest/bin/python --no-deps --editable .
	@touch $@

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .ruff_cache .mypy_cache
