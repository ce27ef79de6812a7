"""How Cauda is run: command line, supervisor, doctor, service units, containers."""
