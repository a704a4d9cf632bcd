# Each target is enough by itself on a machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo_output
SCENES ?= 500
OLDEST = $(shell sed -n 's/ *transformers>=\([0-9.]*\),.*/\1/p' setup.cfg).0
DOCS_DEMO = build/docs/demo_output

.PHONY: demo docs check lint test light oldest format clean

demo: $(VENV)/.installed
	$(VENV)/bin/halp-probe shapes --output-dir $(DEMO)/data --scenes $(SCENES) --seed 0
	$(VENV)/bin/python extract.py --model shapes --vqa-dataset $(DEMO)/data/vqa.csv --images-dir $(DEMO)/data/images \
		--output-dir $(DEMO)/shards --checkpoint-interval 1500 --max-new-tokens 8
	$(VENV)/bin/halp-probe audit --shards $(DEMO)/shards --images-dir $(DEMO)/data/images
	$(VENV)/bin/halp-probe label --shards $(DEMO)/shards --out $(DEMO)/labels.csv
	$(VENV)/bin/python train_probes.py --shards $(DEMO)/shards --labels $(DEMO)/labels.csv --output-dir $(DEMO)/probes \
		--group-columns kind

# The site in site/. Its notebooks are executed on a small demo, and again when one of them has changed.
docs: $(VENV)/.installed $(patsubst notebooks/%.ipynb,docs/notebooks/%.md,$(wildcard notebooks/*.ipynb))
	$(VENV)/bin/mkdocs build --strict --quiet

docs/notebooks/%.md: notebooks/%.ipynb $(DOCS_DEMO)/probes/report.html
	mkdir -p $(DOCS_DEMO)/../notebooks && cp $< $(DOCS_DEMO)/../notebooks
	PYTHONWARNINGS=ignore $(VENV)/bin/jupyter nbconvert --execute --to markdown --output-dir docs/notebooks --log-level ERROR \
		$(DOCS_DEMO)/../notebooks/$*.ipynb

$(DOCS_DEMO)/probes/report.html:
	$(MAKE) demo DEMO=$(DOCS_DEMO) SCENES=150

# What to run before each commit: all but the slow tests.
check: $(VENV)/.installed lint
	$(VENV)/bin/pytest -n 2 --dist loadfile -m "not slow"

test: $(VENV)/.installed lint
	$(VENV)/bin/pytest -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

# The laptop half, as it is installed without extras: no torch, the commands and notebook 02 on a small demo's shards.
light: $(VENV)/.installed $(DOCS_DEMO)/probes/report.html
	rm -rf build/light && mkdir -p build/light
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir build/light .
	$(PYTHON) -m venv build/light/venv
	PYTHONWARNINGS=ignore build/light/venv/bin/python -m pip install --quiet --constraint constraints.txt build/light/*.whl
	build/light/venv/bin/python tests/light_install.py $(DOCS_DEMO)

# The proof of the families with the oldest transformers that setup.cfg allows, in an environment on top of the other one.
oldest: $(VENV)/.installed
	$(VENV)/bin/python -m venv build/oldest
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$(build/oldest/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth
	build/oldest/bin/python -m pip install --quiet "transformers==$(OLDEST)"
	build/oldest/bin/python -m pytest tests/test_equality.py tests/test_equality_answers.py

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build docs/notebooks site
