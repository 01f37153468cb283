"""The ledger of generations, on SQLite or Redis. No torch."""
