"""The ledger of generations and the inbox of feedback, on SQLite or Redis. No torch."""
