#!/usr/bin/env bash
MODE=server-side
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run
