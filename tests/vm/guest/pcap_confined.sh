#!/bin/bash
# Inside the guest, for pcap_confined_test. $1: the build directory.
set -u
shim=/usr/local/lib/ringcap/pcap
mkdir -p $shim /usr/local/bin
cp "$1/libcap/pcap/libpcap.so.0.8" $shim/
cp "$1/tools/ringcap" /usr/local/bin/
local=/etc/apparmor.d/local/usr.bin.tcpdump
: >$local
mount -t securityfs securityfs /sys/kernel/security

fail() {
  echo "pcap_confined.sh: $*" >&2
  cat /tmp/said >&2
  dmesg | grep -i apparmor | tail -n 20 >&2
  exit 1
}
says() { grep -qF -- "$1" /tmp/said || fail "not said: $1"; }
says_not() { ! grep -qF -- "$1" /tmp/said || fail "said: $1"; }
# A command, with what it said in /tmp/said; its status.
does() { timeout 100 "$@" >/tmp/said 2>&1; }
reloads() { apparmor_parser -r /etc/apparmor.d/usr.bin.tcpdump 2>/tmp/said || fail "the profile cannot be loaded"; }
denied() { dmesg | grep 'apparmor="DENIED"' | grep -v 'operation="capable"'; }
captures=(tcpdump -nn -c 1 -i ringcap:one)

ringcap up gen:rate=1k --name one --memory plain --arena 16M >/tmp/engine 2>&1 &
for _ in $(seq 600); do
  ringcap stat one >/tmp/stat 2>/dev/null && break
  kill -0 $! 2>/dev/null || { cat /tmp/engine >&2; fail "the engine ended"; }
  sleep 0.1
done

# A profile that is only in /etc confines nobody, and nothing is said of it.
does ringcap run -- "${captures[@]}" || fail "without a profile, status $?"
says "1 packet captured"
says_not AppArmor

# Once loaded, ringcap run refuses, and what it says makes it work, without one access denied.
reloads
does ringcap run -- "${captures[@]}"
[ $? = 5 ] || fail "confined, but not refused"
says "AppArmor's profile tcpdump keeps /usr/bin/tcpdump from the shim, or from engines"
says "$shim/libpcap.so.0.8 mr,"
mend=$(sed -n 's/^ *as root: //p' /tmp/said)
echo "$shim/libpcap.so.0.8 mr," >$local
reloads
does env LD_LIBRARY_PATH=$shim "${captures[@]}"
[ $? = 1 ] || fail "it captures without the rules for engines"
says "You don't have permission"
says "AppArmor may keep this program from it"
does ringcap run -- "${captures[@]}"
[ $? = 5 ] || fail "confined by halves, but not refused"
says "/run/ringcap/*.lock rk,"
says_not "$shim/libpcap.so.0.8 mr,"
: >$local
does sh -c "$mend" || fail "status $? of: $mend"
dmesg -C
does ringcap run -- "${captures[@]}" || fail "as it was told, status $?"
says "1 packet captured"
says_not AppArmor
[ -z "$(denied)" ] || fail "an access was denied"
does ringcap run -- tcpdump -D || fail "-D, status $?"
says "ringcap:one"

ringcap down one >/tmp/said 2>&1 || fail "down"
wait
