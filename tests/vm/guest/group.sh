#!/bin/bash
# Inside the guest, for group_test. $1: the ringcap program.
set -u
ringcap=/tmp/ringcap # from memory: every start over 9p costs seconds on a busy machine
cp "$1" $ringcap
. "$(dirname "$0")/../../lib/vm_guest.sh"
one=0000:01:01.0 two=0000:01:02.0

fail() {
  echo "group.sh: $*" >&2
  cat /tmp/said >&2
  exit 1
}
says() { grep -qF -- "$1" /tmp/said || fail "not said: $1"; }

group() { basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"; }
: >/tmp/said
[ "$(group $one)" = "$(group $two)" ] || fail "$one and $two are in groups of their own"
for nic in $one $two; do vm_bind e1000 $nic || fail "e1000 does not take $nic"; echo >/sys/bus/pci/devices/$nic/driver_override; done
modprobe vfio-pci

$ringcap bind $one >/tmp/said 2>&1 || fail "bind ended with status $?"
says "others of its IOMMU group are bound to vfio-pci, or to nothing: $two (e1000)"
$ringcap up vfio:$one --name group --arena 8M >/tmp/said 2>&1 && fail "an engine came up"
says "other drivers hold some of them: $two (e1000)"
says "ringcap bind $two"

$ringcap bind $two >/tmp/said 2>&1 || fail "bind of $two ended with status $?"
$ringcap up vfio:$one --name group --arena 8M >/tmp/said 2>&1 &
for _ in $(seq 600); do
  $ringcap stat group >/tmp/stat 2>/dev/null && break
  kill -0 $! 2>/dev/null || fail "the engine ended"
  sleep 0.1
done
$ringcap down group >/tmp/down 2>&1 || fail "down: $(cat /tmp/down)"
wait $! || fail "the engine ended with status $?"
