"""A loss and a data source for kdsweep."""
