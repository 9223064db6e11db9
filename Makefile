.PHONY: check test format

check:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test:
	pytest -q

format:
	ruff check --fix .
	ruff format .
