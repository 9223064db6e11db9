"""Ray: a cluster for the length of a sweep, Tune's adapters, what runs in its workers.

The only code that imports Ray. What Ray does not promise to keep is in ``bridge.py`` alone.
"""
