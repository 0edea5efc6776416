"""Look at adapters side by side: the same prompts from the same noise, and what set their runs apart."""
