"""The serving side of learning: which adaptation a request gets, and where its bytes are."""
