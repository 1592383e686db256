#!/bin/sh
# A container's services are started by its command, never by a package being installed.
exit 101
