"""Programs that Morgan runs: kept alive, under which account, and ended whole."""
