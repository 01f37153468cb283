"""The learning side: what feedback becomes, and what has to hold before anything learned is served. No torch."""
