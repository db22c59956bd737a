"""The configuration: ``schema`` says what may be in it, ``load`` reads and checks it."""
