"""Which route a request takes: ``path`` says what a path means, ``table`` finds the route."""
