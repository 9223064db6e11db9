.PHONY: check docs package test test-all mutants bench-check bench-mutants format constraints

check:
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	$(MAKE) --no-print-directory package docs

# The documentation as a site; a link that leads nowhere is an error.
docs:
	sphinx-build -q -E -W --keep-going docs build/docs

# Whether sdist and wheel can be built and described; what was built is not kept.
package:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	{ python -m build --no-isolation --outdir "$$dir/dist" . > "$$dir/log" 2>&1 || \
	{ cat "$$dir/log"; exit 1; }; } && twine check --strict "$$dir"/dist/*

# Two processes: most tests wait for processes of their own, or use one core.
test:
	pytest -q -n 2 --dist worksteal -m "not slow"

# With what starts Ray for long, trains for long, or builds a machine: some twenty minutes.
test-all:
	pytest -q -n 2 --dist worksteal --nbmake --nbmake-timeout=900 tests notebooks

# Plants small faults in the modules that decide most; their own tests should notice.
mutants:
	python tests/mutants.py

# Quick benchmarks, side by side: their ratios against benchmarks/floors.toml.
bench-check:
	python benchmarks/check.py

# Plants regressions in a copy of kdsweep; the floors should notice each.
bench-mutants:
	python benchmarks/mutants.py

format:
	ruff check --fix .
	ruff format .

# Writes down the versions of the current environment, which should be fresh and just tested.
constraints:
	pip freeze --exclude-editable | sort > constraints.txt
