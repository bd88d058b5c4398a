#!/usr/bin/env bash
MODE=custom-data
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run
