"""Networks that are not built here: loaded from their project, matched to arrays by name, and probed layer by layer."""
