#!/bin/sh
# Runs one of Kafka's classes. Reads the variables of the distribution's script of this name that
# queuebench sets: KAFKA_HEAP_OPTS, KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_LOG4J_OPTS, KAFKA_OPTS.
set -eu
libs=$(dirname "$0")/../libs
# The variables hold several options each; the star is Java's own.
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} \
    ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -Djava.awt.headless=true} \
    ${KAFKA_LOG4J_OPTS:-} ${KAFKA_OPTS:-} -cp "$libs/*" "$@"
