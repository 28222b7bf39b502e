# The peer outside of tests/vm/transparent_*_test: sourced after vm.sh (bash).

# Addresses on tap0, an echo server on port 7, iperf3, a DHCP server; they end with the namespace.
vm_peer() {
  ip netns exec "$vm_netns" sysctl -q -w net.ipv6.conf.tap0.disable_ipv6=0 net.ipv6.conf.tap0.accept_dad=0
  ip -n "$vm_netns" link set tap0 mtu 1500
  ip -n "$vm_netns" address add 10.77.0.1/24 dev tap0
  ip -n "$vm_netns" address add fd77::1/64 dev tap0 nodad
  ip netns exec "$vm_netns" ethtool -K tap0 tx off >/dev/null 2>&1 || true # the guest's NIC checks checksums
  vm_exec_in_background python3 -B "$vm_tests/guest/echo_server.py" 10.77.0.1 7
  vm_exec_in_background iperf3 -s >"$vm_share/iperf3" 2>&1
  cat >"$vm_share/udhcpd.conf" <<EOF
start 10.77.0.100
end 10.77.0.110
interface tap0
lease_file $vm_share/leases
pidfile $vm_share/udhcpd.pid
option subnet 255.255.255.0
option router 10.77.0.1
EOF
  touch "$vm_share/leases"
  vm_exec_in_background busybox udhcpd -f "$vm_share/udhcpd.conf" >"$vm_share/udhcpd" 2>&1
}
