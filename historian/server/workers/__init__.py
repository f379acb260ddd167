"""Several processes of one server (`historian serve --workers N`): a supervisor that has the port, and workers that answer on it."""
