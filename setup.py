"""What pyproject.toml has no words for: a package whose folder is not where its name says."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["kdsweep", "kdsweep.*"]), "kdsweep.search_spaces"],
    # They stay at the top of the repository, where people look for them.
    package_dir={"kdsweep.search_spaces": "search_spaces"},
)
