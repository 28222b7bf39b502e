// Multicast memberships of an interface: part of interface_state.h. In the caller's network namespace.
//
// The groups of IP belong to sockets of programs, which keep them by the interface's number: when the
// interface goes and one of its name comes back, the sockets stay members of a number that is no more, and
// the interface is in no group. So the sockets are looked up (in all processes that we may see), and each is
// made a member again on the interface that is there now, as the program itself would do it: the membership
// ends with the program's socket, as before. A group whose program has ended meanwhile is nobody's, and is
// left out. Needs root, and Linux 5.6 (pidfd_getfd).
#pragma once

#include <string>
#include <vector>

namespace ringcap::tools {

struct Memberships {
  std::vector<std::string> groups;       // of IP: "239.1.2.3", "ff02::fb"
  std::vector<std::string> link_groups;  // added by hand (`ip maddress add`): "01:80:c2:00:00:0e"
};

// All but those that the kernel joins by itself on every interface, or for its addresses.
Memberships save_memberships(int index);

// Gives interface `name` the memberships that interface number `index` had; `index` 0: the link's only.
// What could not be done, a line each.
std::vector<std::string> restore_memberships(const std::string& name, int index, const Memberships& state);

}  // namespace ringcap::tools
