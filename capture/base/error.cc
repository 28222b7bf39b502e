#include "capture/base/error.h"

#include <fmt/format.h>

#include <system_error>

namespace ringcap {

std::unexpected<Error> fail_system(std::string_view tried, int number, std::string mend) {
  const Code code = number == EPERM || number == EACCES ? Code::kPermission : Code::kSystem;
  return fail(code, fmt::format("{}: {}", tried, std::generic_category().message(number)), std::move(mend));
}

std::unexpected<Error> context(std::string_view context, Error error) {
  error.text = fmt::format("{}: {}", context, error.text);
  return std::unexpected(std::move(error));
}

}  // namespace ringcap
