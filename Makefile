.PHONY: check test bench-check format constraints

check:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

# Two processes: most tests wait for processes of their own, or use one core.
test:
	pytest -q -n 2 --dist worksteal

# Quick benchmarks, side by side: their ratios against benchmarks/floors.toml.
bench-check:
	python benchmarks/check.py

format:
	ruff check --fix .
	ruff format .

# Writes down the versions of the current environment, which should be fresh and just tested.
constraints:
	pip freeze --exclude-editable | sort > constraints.txt
