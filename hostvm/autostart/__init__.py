"""Starting a machine when its user logs in: what systemd, launchd and Windows' Task Scheduler are told."""
