# What the tests/vm/e1000e_*_test and igb_*_test and other NIC scripts share; sourced after vm.sh (bash).

vm_top=$(dirname -- "$(dirname -- "$vm_tests")")
vm_build=${RINGCAP_BUILD:-$vm_top/build/release}
vm_guest=$vm_tests/guest/e1000e.py
vm_frames=$vm_tests/guest/frames.py

for vm_program in tools/ringcap tests/nic/ringcap_nic_send; do
  [ -x "$vm_build/$vm_program" ] || vm_fail "$vm_build/$vm_program is not built (RINGCAP_BUILD names the build directory)"
done

# e1000e_in_background [options of tests/vm/run] -- what of guest/e1000e.py
e1000e_in_background() {
  vm_run_in_background --env "RINGCAP=$vm_build/tools/ringcap" \
    --env "RINGCAP_NIC_SEND=$vm_build/tests/nic/ringcap_nic_send" "$@" "$vm_share"
}

# e1000e_sends SECONDS FILE [SUFFIX [SPEED]]: waits for the guest, then sends the file's frames.
e1000e_sends() {
  vm_until "$1" test -e "$vm_share/ready${3-}" || exit 1
  vm_exec tcpreplay --quiet "${4---topspeed}" -i tap0 "$2" >"$vm_share/tcpreplay" 2>&1 || { cat "$vm_share/tcpreplay" >&2; vm_fail "tcpreplay"; }
  touch "$vm_share/sent${3-}"
}

e1000e_ends_well() {
  vm_wait || { cat "$vm_share/output" >&2; vm_fail "the guest"; }
  cat "$vm_share/output"
  vm_dma_faults && vm_fail "DMA faults"
  echo passed
}
