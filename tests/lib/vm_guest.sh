# Shell functions for scripts that run inside the guest of tests/vm/run (bash or sh).

# vm_bind DRIVER ADDRESS: gives the PCI function to this driver, whichever it had.
vm_bind() {
  vm_device=/sys/bus/pci/devices/$2
  modprobe "$1" || return 1
  echo "$1" >"$vm_device/driver_override" || return 1
  [ ! -e "$vm_device/driver" ] || echo "$2" >"$vm_device/driver/unbind" || return 1
  echo "$2" >/sys/bus/pci/drivers_probe || return 1
  [ "$(basename "$(readlink "$vm_device/driver")")" = "$1" ]
}

# The interface of a PCI function that a kernel driver has.
vm_interface() {
  ls "/sys/bus/pci/devices/$1/net"
}
