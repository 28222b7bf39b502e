# Shell functions for tests in a virtual machine, sourced by the tests/vm/*_test scripts (bash).
#
# A test makes the world outside (vm_outside), starts guests (vm_run), looks at what they left, and ends
# by its exit status. Everything made here goes when the script ends, by whatever exit.

vm_tests=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")/vm
vm_netns=rcvm$$ # the namespace outside; its tap is always tap0
vm_share=       # a directory that both sides write; absolute
vm_log=         # where the last vm_run left console.log and dmesg.log
vm_guest_pid=   # of vm_run_in_background
vm_arguments=("$@")

# Makes the namespace with tap0 (frames up to 9,000 bytes of payload; a queue that holds a whole test, because
# a tap drops silently when its reader is late) and the shared directory.
vm_outside() {
  vm_forget_dead
  vm_share=$(mktemp -d "${TMPDIR:-/tmp}/ringcap-vm.XXXXXX")
  vm_log=$vm_share/log
  trap vm_end EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  ip netns add "$vm_netns"
  ip -n "$vm_netns" tuntap add dev tap0 mode tap
  ip netns exec "$vm_netns" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
  ip -n "$vm_netns" link set tap0 mtu 9000 txqueuelen 65536 up
}

# A guest in which the emulator failed has shown nothing: the test begins again, twice at most.
vm_end() {
  local status=$? void=
  vm_end_guest
  if [ "$status" != 0 ]; then void=$(cat "$vm_log/void" 2>/dev/null); fi
  vm_cleanup
  if [ -n "$void" ] && [ "${RINGCAP_VM_ATTEMPT:-1}" -lt 3 ]; then
    echo "$void: once more" >&2
    trap - HUP INT TERM
    RINGCAP_VM_ATTEMPT=$((${RINGCAP_VM_ATTEMPT:-1} + 1)) exec "$0" ${vm_arguments[@]+"${vm_arguments[@]}"}
  fi
  exit "$status"
}

vm_end_guest() {
  if [ -n "$vm_guest_pid" ]; then
    kill "$vm_guest_pid" 2>/dev/null
    wait "$vm_guest_pid" 2>/dev/null
  fi
}

vm_cleanup() {
  if ip netns pids "$vm_netns" >/dev/null 2>&1; then
    ip netns pids "$vm_netns" | xargs -r kill -9
    ip netns delete "$vm_netns"
  fi
  [ -z "$vm_share" ] || rm -rf -- "$vm_share"
}

# Namespaces of tests that were killed, and could not clean up.
vm_forget_dead() {
  local name
  for name in $(ip netns list | grep -o '^rcvm[0-9]*'); do
    kill -0 "${name#rcvm}" 2>/dev/null || ip netns delete "$name" 2>/dev/null || true
  done
}

# vm_run [options of tests/vm/run] -- command: a guest with a NIC (an e1000e, or what $vm_nic says) on tap0 and the shared directory.
# Returns the command's exit status.
vm_run() {
  vm_run_with command "$@"
}

vm_run_with() {
  local how=$1
  shift
  "$how" "$vm_tests/run" --nic "${vm_nic-e1000e}" --tap tap0 --netns "$vm_netns" --share "$vm_share" --log "$vm_log" "$@"
}

# The same, beside the script; wait for it with vm_wait. Its output goes to $vm_share/output.
vm_run_in_background() {
  # exec, so that the pid is that of tests/vm/run
  (vm_run_with exec "$@" >"$vm_share/output") &
  vm_guest_pid=$!
}

# Waits for the guest's end; returns the command's exit status.
vm_wait() {
  local pid=$vm_guest_pid
  vm_guest_pid=
  wait "$pid"
}

# A program in the namespace outside.
vm_exec() {
  ip netns exec "$vm_netns" "$@"
}

# The same, beside the script, until the script ends.
vm_exec_in_background() {
  ip netns exec "$vm_netns" "$@" &
  disown
}

# vm_until SECONDS command...: repeats the command until it succeeds; fails, and says so, at the deadline or when
# the guest is gone.
vm_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "waited in vain for: $*" >&2
      tail -n 25 -- "$vm_share/output" "$vm_log/console.log" >&2 # what the guest was at
      return 1
    fi
    if [ -n "$vm_guest_pid" ] && ! kill -0 "$vm_guest_pid" 2>/dev/null; then
      echo "the guest ended before: $*" >&2
      tail -n 25 -- "$vm_share/output" "$vm_log/console.log" >&2
      return 1
    fi
    sleep 0.05
  done
}

# The DMA faults in the guest's kernel log, one a line; status 1 if there are none, but for those that
# $vm_fault_known matches.
vm_dma_faults() {
  if [ ! -s "$vm_log/dmesg.log" ]; then
    echo "no kernel log in $vm_log" # never taken for a clean one
    return 0
  fi
  grep 'DMAR:.*fault' "$vm_log/dmesg.log" | grep -v 'handling fault status reg' | grep -vE "${vm_fault_known:-^\$}"
}

vm_fail() {
  echo "FAILED: $*" >&2
  exit 1
}
