#include "tools/netlink.h"

#include <fmt/format.h>

namespace ringcap::tools {

std::unexpected<Error> netlink_error(const std::string& tried, int number) {
  const Code code = number == -NLE_PERM || number == -NLE_NOACCESS ? Code::kPermission : Code::kSystem;
  return fail(code, fmt::format("{}: {}", tried, nl_geterror(number)));
}

Result<Socket> open_netlink() {
  Socket socket(nl_socket_alloc());
  const int number = socket ? nl_connect(socket.get(), NETLINK_ROUTE) : -NLE_NOMEM;
  if (number < 0) return netlink_error("cannot open a netlink socket", number);
  return socket;
}

std::string text_of(nl_addr* address) {
  char text[128];
  return address == nullptr || nl_addr_get_len(address) == 0 ? "" : nl_addr2str(address, text, sizeof text);
}

Address parse_address(const std::string& text, int family) {
  nl_addr* address = nullptr;
  if (text.empty() || nl_addr_parse(text.c_str(), family, &address) < 0) return nullptr;
  return Address(address);
}

}  // namespace ringcap::tools
