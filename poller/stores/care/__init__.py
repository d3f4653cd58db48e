"""Looking after a store from outside: verifying, repairing, exporting and importing what its files hold."""
