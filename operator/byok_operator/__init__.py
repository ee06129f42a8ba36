"""The operator: proves continuously that keys can be used and recipes resolve, and says so in `status`."""
