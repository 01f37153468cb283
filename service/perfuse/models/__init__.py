"""Networks: layers, one file per architecture, and the contract by which the engine computes them."""
