#include "tools/bind_record.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "capture/base/run_dir.h"
#include "tools/system_files.h"

namespace ringcap::tools {
namespace {

constexpr const char* kSchema = "ringcap.bind/1";

std::string folder(const std::string& dir) { return dir + "/bind"; }
std::string confirm_path(const std::string& dir, const std::string& address) {
  return folder(dir) + "/" + address + ".confirm";
}

Result<void> make_folder(const std::string& dir) {
  if (::mkdir(folder(dir).c_str(), 0755) == 0 || errno == EEXIST) return {};
  return fail_system("cannot make " + folder(dir));
}

// As a whole or not at all: beside the file, then renamed over it.
Result<void> write_file(const std::string& path, const std::string& text) {
  const std::string beside = path + ".new";
  std::ofstream file(beside, std::ios::trunc);
  file << text << std::flush;
  if (!file) return fail_system("cannot write " + beside);
  if (::rename(beside.c_str(), path.c_str()) != 0) return fail_system("cannot write " + path);
  return {};
}

}  // namespace

std::string record_path(const std::string& dir, const std::string& address) {
  return folder(dir) + "/" + address + ".json";
}

Result<void> write_record(const std::string& dir, const BindRecord& record) {
  if (auto made = make_folder(dir); !made) return made;
  const nlohmann::json out = {{"schema", kSchema},
                              {"address", record.address},
                              {"driver", record.driver},
                              {"driver_override", record.driver_override},
                              {"interfaces", record.interfaces}};
  return write_file(record_path(dir, record.address), out.dump(2) + "\n");
}

Result<BindRecord> read_record(const std::string& dir, const std::string& address) {
  const std::string path = record_path(dir, address);
  const auto text = read_text(path);
  if (!text) return fail(Code::kNotFound, fmt::format("there is no record of {} ({})", address, path));
  try {
    const auto in = nlohmann::json::parse(*text);
    BindRecord record;
    in.at("address").get_to(record.address);
    in.at("driver").get_to(record.driver);
    in.at("driver_override").get_to(record.driver_override);
    in.at("interfaces").get_to(record.interfaces);
    return record;
  } catch (const nlohmann::json::exception& error) {
    return fail(Code::kSystem, fmt::format("{} is damaged: {}", path, error.what()),
                fmt::format("remove it, and unbind again: rm {}", path));
  }
}

void remove_record(const std::string& dir, const std::string& address) {
  ::unlink(record_path(dir, address).c_str());
}

std::string bound_interface(const std::string& address) {
  for (const std::string& dir : run_dirs()) {
    const auto record = read_record(dir, address);
    if (record && !record->interfaces.empty()) return record->interfaces.front().name;
  }
  return "";
}

std::string address_of_bound(const std::string& dir, const std::string& interface) {
  for (const std::string& file : list_directory(folder(dir))) {
    if (!file.ends_with(".json")) continue;
    const auto record = read_record(dir, file.substr(0, file.size() - 5));
    if (!record) continue;
    for (const InterfaceState& state : record->interfaces) {
      if (state.name == interface) return record->address;
    }
  }
  return "";
}

Result<void> make_confirmation(const std::string& dir, const std::string& address) {
  if (auto made = make_folder(dir); !made) return made;
  return write_file(confirm_path(dir, address), "");
}

bool take_confirmation(const std::string& dir, const std::string& address) {
  return ::unlink(confirm_path(dir, address).c_str()) == 0;
}

bool take_back(const std::string& dir, const std::string& address) {
  return take_confirmation(dir, address) || confirmation_pending(dir, address);
}

bool confirmation_pending(const std::string& dir, const std::string& address) {
  return exists(confirm_path(dir, address));
}

}  // namespace ringcap::tools
