"""One file a data source: named after it, found because it is there."""
