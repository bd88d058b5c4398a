#!/usr/bin/env bash
MODE=async-replication
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run
