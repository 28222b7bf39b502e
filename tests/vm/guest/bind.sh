#!/bin/bash
# Inside the guest, for bind_test and bind_engine_test: `ringcap bind` and `unbind` with the real kernel.
# $1: the ringcap program; $2: kernel (nobody uses the NIC) or engine (an engine does).
set -u
part=$2
ringcap=/tmp/ringcap # from memory: every start over 9p costs seconds on a busy machine
cp "$1" $ringcap
nic=0000:00:04.0
. "$(dirname "$0")/../../lib/vm_guest.sh"

fail() {
  echo "bind.sh: $*" >&2
  exit 1
}
driver() { basename "$(readlink "/sys/bus/pci/devices/$nic/driver")"; }
# Everything that must come back. The rest (lifetimes, link state, numbers of interfaces) moves by itself.
state() {
  ip -o link show dev "$interface" | grep -o 'mtu [0-9]*\|qlen [0-9]*\|link/ether [0-9a-f:]*\|[<,]UP'
  ip -o -4 addr show dev "$interface" | sed 's/^[0-9]*: //'
  ip -4 route show table all dev "$interface" | sed 's/ linkdown//' | sort
}
until_driver() {
  for _ in $(seq 200); do
    [ "$(driver)" != "$1" ] || return 0
    sleep 0.1
  done
  fail "the driver is $(driver), not $1"
}

modprobe vfio-pci
vm_bind e1000e $nic || fail "e1000e does not take $nic"
echo >/sys/bus/pci/devices/$nic/driver_override
interface=$(vm_interface $nic)
ip link set "$interface" down
ip link set "$interface" name lan0
interface=lan0
ip link set lan0 mtu 1400 address 02:00:00:00:00:04 txqueuelen 77 up
ip addr add 10.7.0.1/24 dev lan0
ip addr add 10.7.1.1 peer 10.7.1.2/32 dev lan0
ip route add 10.8.0.0/16 via 10.7.0.254 metric 50 mtu 1300
ip route add 10.9.0.0/16 dev lan0 src 10.7.0.1 table 77
before=$(state)

test_kernel() {
  echo "== bound, and back"
  "$ringcap" bind lan0 || fail "bind"
  [ "$(driver)" = vfio-pci ] || fail "bound to $(driver)"
  "$ringcap" bind lan0 && fail "an interface that is gone was bound"
  "$ringcap" bind $nic || fail "binding again is no error"
  "$ringcap" devices | grep -q "$nic.*vfio-pci.*(lan0).*e1000e" || fail "devices: $("$ringcap" devices)"
  "$ringcap" unbind lan0 || fail "unbind"
  [ "$(driver)" = e1000e ] || fail "given back to $(driver)"
  [ "$(cat /sys/bus/pci/devices/$nic/driver_override)" = "(null)" ] || fail "an override stayed"
  [ "$(state)" = "$before" ] || fail "before: $before
after: $(state)"
  [ -z "$(ls /run/ringcap/bind)" ] || fail "left in /run/ringcap/bind: $(ls /run/ringcap/bind)"

  echo "== kept for its default route, bound by force"
  ip route add default via 10.7.0.254
  before=$(state)
  "$ringcap" bind $nic 2>/tmp/errors
  [ $? = 2 ] || fail "the NIC with the default route was bound"
  grep -q 'default route' /tmp/errors || fail "the error is: $(cat /tmp/errors)"
  [ "$(driver)" = e1000e ] || fail "refused, and yet bound to $(driver)"

  echo "== not confirmed in time: given back"
  "$ringcap" bind --force --confirm 2 $nic || fail "bind --force --confirm"
  [ "$(driver)" = vfio-pci ] || fail "bound to $(driver)"
  until_driver e1000e
  for _ in $(seq 100); do
    [ -n "$(ls /run/ringcap/bind)" ] || break # the record goes when everything is back
    sleep 0.1
  done
  [ "$(state)" = "$before" ] || fail "before: $before
after the guard: $(state)"
  "$ringcap" bind --keep $nic && fail "there is nothing to keep any more"

  echo "== confirmed in time: stays"
  "$ringcap" bind --force --confirm 600 $nic || fail "bind --confirm"
  "$ringcap" bind --keep $nic || fail "bind --keep"
  for _ in $(seq 100); do
    pgrep -x ringcap >/dev/null || break
    sleep 0.1
  done
  pgrep -x ringcap && fail "the guard still waits"
  [ "$(driver)" = vfio-pci ] || fail "kept, and yet bound to $(driver)"
}

test_engine() {
  echo "== given back while an engine uses it: the engine lets go"
  "$ringcap" bind $nic || fail "bind"
  "$ringcap" up vfio:$nic --name demo --arena 16M --ring 1k &
  engine=$!
  for _ in $(seq 200); do
    "$ringcap" stat demo >/dev/null 2>&1 && break
    sleep 0.1
  done
  "$ringcap" stat demo >/dev/null || fail "no engine on the bound NIC"
  "$ringcap" unbind $nic || fail "unbind while an engine runs"
  [ "$(driver)" = e1000e ] || fail "given back to $(driver)"
  [ "$(state)" = "$before" ] || fail "before: $before
after the engine: $(state)"
  "$ringcap" down demo
  wait $engine
}

test_$part
echo passed
