"""The HTTP front: schemas, problems, keys, routes. No torch."""
