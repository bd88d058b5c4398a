#!/usr/bin/env bash
MODE=sync-replication
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run
