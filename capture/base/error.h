// Error: what went wrong, for a person. Used by every part, in every process.
//
// An error is made once, where the cause is known; callers add context on the way up with
// `context()`, and the tool shows it once. Data paths do not use it: they count.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace ringcap {

// The values are libringcap's (ringcap.h) and docs/ lists what each becomes as an exit status.
enum class Code {
  kSystem = 1,      // a system call failed
  kUsage = 2,       // what was asked for makes no sense
  kFilter = 3,      // a filter is not valid
  kGone = 4,        // the engine ended, or detached us
  kPermission = 5,  // not permitted
  kNotFound = 6,    // no such engine, interface, device
  kVersion = 7,     // the other side speaks another major version
};

struct Error {
  Code code = Code::kSystem;
  std::string text;  // what was tried and what is wrong: "cannot open /dev/vfio/7: Permission denied"
  std::string mend;  // what mends it, a command where there is one; may be empty

  // The whole error as one text: "TEXT; MEND".
  std::string message() const { return mend.empty() ? text : text + "; " + mend; }
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Code code, std::string text, std::string mend = {}) {
  return std::unexpected(Error{code, std::move(text), std::move(mend)});
}

// An error of a system call: "TRIED: strerror(number)". EPERM and EACCES become kPermission.
std::unexpected<Error> fail_system(std::string_view tried, int number = errno, std::string mend = {});

// The same error with "CONTEXT: " before its text.
std::unexpected<Error> context(std::string_view context, Error error);

}  // namespace ringcap
