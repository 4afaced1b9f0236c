#!/bin/sh
# The proofs that take too long for every change: ten minutes of a random
# schedule. SEED=N plays that one again, MINUTES=M takes another time.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

sh scripts/make/prerequisites.sh cargo cc python3 node
sh scripts/make/build.sh
python3 test/schedule/run.py --minutes "${MINUTES:-10}" ${SEED:+--seed "$SEED"}
