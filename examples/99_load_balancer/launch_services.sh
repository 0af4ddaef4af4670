#!/usr/bin/env bash
# Serve the models of examples/models N times, at the ports 50051, 50052, ... Ctrl-C drains all of them.
#
# usage: launch_services.sh [N] [OPTIONS OF yais serve]
#
# FIRST_PORT is the first of the ports.
set -euo pipefail
cd "$(dirname "$0")/../.."

for ((number = 0; number < ${1:-2}; number++)); do
    port=$((${FIRST_PORT:-50051} + number))
    # Its health is looked at every second, and may take one to answer: five are enough for all to know that it goes.
    yais serve --model-repository examples/models --model-control-mode explicit --load-model simple \
        --grpc-address 127.0.0.1 --grpc-port "$port" --allow-http 0 --allow-metrics 0 --log-info 0 \
        --drain-delay-secs 5 "${@:2}" &
    echo "server $number: port $port, process $!"
done
trap : INT # a terminal sends it to the servers, too, and a second signal would end them at once
trap 'kill $(jobs -p) 2>/dev/null || true' TERM
until wait; do :; done # a signal ends one wait
