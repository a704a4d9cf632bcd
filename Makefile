# Each target is enough by itself on a machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo_output

.PHONY: demo test format clean

demo: $(VENV)/.installed
	$(VENV)/bin/halp-probe shapes --output-dir $(DEMO)/data --scenes 500 --seed 0
	$(VENV)/bin/python extract.py --model shapes --vqa-dataset $(DEMO)/data/vqa.csv --images-dir $(DEMO)/data/images \
		--output-dir $(DEMO)/shards --checkpoint-interval 1500 --max-new-tokens 8
	$(VENV)/bin/halp-probe audit --shards $(DEMO)/shards --images-dir $(DEMO)/data/images
	$(VENV)/bin/halp-probe label --shards $(DEMO)/shards --out $(DEMO)/labels.csv
	$(VENV)/bin/python train_probes.py --shards $(DEMO)/shards --labels $(DEMO)/labels.csv --output-dir $(DEMO)/probes \
		--group-columns kind

test: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n 2 --dist loadfile

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO)
