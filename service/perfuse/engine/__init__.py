"""Batches the forwards of all running requests: scheduler, cost model, compute loop, processes."""
