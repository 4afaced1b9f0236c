"""The installed service under a real systemd: one that boots in a container whose
root is this machine's, with all changes kept apart and thrown away."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from blackbox.case import OwnServerCase, need_tool
from blackbox.server import REPOSITORY, binary

BOOT_S = 120

# Runs in mount, host name and process namespaces of its own. PLACE is an empty
# folder, BINARY the program.
CONTAINER = r"""
set -e
mount --make-rprivate /
# Where the container's keeper notes things.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$PLACE/upper"
mkdir "$PLACE/upper/changes" "$PLACE/upper/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$PLACE/upper/changes,workdir=$PLACE/upper/work" "$PLACE/root"
root=$PLACE/root
units=$root/etc/systemd/system
rm -rf "$units" "$root/var/lib/tinyfaas" "$root/etc/tinyfaas"
mkdir -p "$units/tried.target.wants" "$root/checked" "$root/var/log/journal"
cp -r scripts test/fns "$root/checked"
DESTDIR=$root PREFIX=/usr BINARY=$PROGRAM sh scripts/make/install.sh >/dev/null
systemd-sysusers --root="$root" >/dev/null 2>&1
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
printf '%s\n' "$CHECK" >"$root/checked/check.sh"
cat >"$units/tried.target" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
UNIT
cat >"$units/check.service" <<'UNIT'
[Unit]
Wants=tinyfaas.service
After=tinyfaas.service
[Service]
Type=oneshot
WorkingDirectory=/checked
ExecStart=/bin/sh /checked/check.sh
ExecStopPost=systemctl poweroff
TimeoutStartSec=60
UNIT
ln -s ../check.service "$units/tried.target.wants/check.service"
# What would touch the machine that this runs on, or takes long.
for unit in systemd-udevd systemd-udev-trigger systemd-tmpfiles-setup systemd-tmpfiles-clean; do
    ln -s /dev/null "$units/$unit.service"
done
status=0
timeout --kill-after=5 "$SECONDS_MAX" systemd-nspawn --quiet --directory="$root" --boot --register=no \
    --keep-unit --private-network --link-journal=no --console=pipe --machine=tinyfaas-tried \
    systemd.unit=tried.target >"$PLACE/console" 2>&1 </dev/null || status=$?
cp "$root/checked/output" "$PLACE/output" 2>/dev/null || true
journalctl --directory="$root/var/log/journal" --no-pager --output=short >"$PLACE/journal" 2>/dev/null || true
exit "$status"
"""

CHECK = r"""
exec >/checked/output.new 2>&1
show() { systemctl show tinyfaas --property="$1" --value; }
export TINYFAAS_SERVER=http://localhost:8080
call() { curl --silent --max-time 20 --data "$2" "http://localhost:8000/$1"; }
echo "state $(show ActiveState), $(show StatusText)"
first=$(show MainPID)
echo "server as $(stat --format=%U /proc/$first), data of $(stat --format='%U %a' /var/lib/tinyfaas)"
mkdir who
printf '#!/bin/sh\nid -un\nls /home\n' >who/fn.sh
./scripts/upload.sh who who binary 1
echo "function as $(call who x)"
./scripts/upload.sh fns/echo echo python3 1
echo "echo $(call echo hello)"
kill -KILL "$first"
until [ "$(show MainPID)" != "$first" ] && [ "$(show ActiveState)" = active ]; do sleep 0.1; done
echo "started anew: $(show NRestarts)"
./scripts/upload.sh fns/echo echo python3 1
echo "echo $(call echo again)"
systemctl stop tinyfaas
echo "stopped: $(show ActiveState), $(show Result), $(show ExecMainStatus)"
echo "left: $(ls /var/lib/tinyfaas | tr '\n' ' ')"
mv /checked/output.new /checked/output
"""


class UnderSystemd(OwnServerCase):
    def test_the_service_starts_restarts_and_stops(self):
        if os.geteuid() != 0:
            self.skipTest("only root can boot a container")
        for tool in ("systemd-nspawn", "systemd-sysusers", "unshare", "curl", "zip"):
            need_tool(self, tool)
        place = Path(tempfile.mkdtemp(prefix="tinyfaas-systemd-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        for name in ("upper", "root"):
            (place / name).mkdir()
        variables = {**os.environ, "PLACE": str(place), "PROGRAM": str(Path(binary()).resolve()), "CHECK": CHECK, "SECONDS_MAX": str(BOOT_S)}
        done = subprocess.run(
            ["unshare", "--mount", "--uts", "--ipc", "sh", "-c", CONTAINER],
            cwd=REPOSITORY, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_S + 30, check=False,
        )
        read = {name: (place / name).read_text(errors="replace") if (place / name).exists() else "" for name in ("console", "journal", "output")}
        if not read["output"] and "systemd" not in read["journal"]:
            self.skipTest(f"systemd does not boot in a container here: {done.stderr[-300:]} {read['console'][-300:]}")
        journal = "".join(line + "\n" for line in read["journal"].splitlines() if "tinyfaas" in line or "check" in line)
        output = read["output"].splitlines()
        for line in (
            "state active, serving: management on port 8080, http on port 8000, coap on port 5683, grpc on port 9000",
            "server as tinyfaas, data of tinyfaas 700",
            "function as tinyfaas",
            "echo hello",
            "started anew: 1",
            "echo again",
            "stopped: inactive, success, 0",
            "left: cache id lock ",
        ):
            self.assertIn(line, output, journal)


if __name__ == "__main__":
    unittest.main()
