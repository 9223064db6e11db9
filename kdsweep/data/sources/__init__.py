"""The data sources that come with kdsweep, one file each.

Each has a ``build`` function that is called with the source's keys (``kdsweep/config/data.py``),
the cache folder and a progress callback or ``None``. ``docs/extending.md`` says how another package
brings one.
"""
