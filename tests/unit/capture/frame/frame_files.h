// The frames of tests/data/frames, each with what it is (tests/data/make_frames.py says how that is
// written), and the hashes that follow from that by docs/hash.md, computed without the parser.
#pragma once

#include <arpa/inet.h>
#include <netinet/ether.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "capture/cluster/kind.h"
#include "capture/frame/hash.h"
#include "capture/frame/headers.h"
#include "capture/pcapfile/reader.h"

namespace ringcap::test {

// FAMILY NUMBER SOURCE PORT TARGET PORT
struct Tuple {
  std::string family;
  uint32_t number = 0;  // protocol or EtherType
  std::string source, target;
  uint16_t source_port = 0, target_port = 0;
};

inline Tuple read_tuple(std::istream& text) {
  Tuple tuple;
  std::string number;
  text >> tuple.family >> number >> tuple.source >> tuple.source_port >> tuple.target >> tuple.target_port;
  tuple.number = static_cast<uint32_t>(std::stoul(number, nullptr, 0));
  return tuple;
}

inline uint64_t end_of(const Tuple& tuple, const std::string& address, uint16_t port, const HashKey& key) {
  std::array<std::byte, 16> bytes{};
  bool read = true;
  if (tuple.family == "mac")
    read = ether_aton_r(address.c_str(), reinterpret_cast<ether_addr*>(bytes.data())) != nullptr;
  else
    read = inet_pton(tuple.family == "4" ? AF_INET : AF_INET6, address.c_str(), bytes.data()) == 1;
  if (!read) throw std::runtime_error("no address: " + address);
  if (tuple.family == "mac") return flow_hash::end_mac(bytes.data());
  if (tuple.family == "6") return flow_hash::end_ipv6(bytes.data(), htons(port), key);
  return flow_hash::end_ipv4(flow_hash::load<uint32_t>(bytes.data()), htons(port));
}

inline uint32_t hash_tuple(const Tuple& tuple, bool ports, bool number, const HashKey& key) {
  const uint32_t kind = tuple.family == "mac" ? 0x10000 : tuple.family == "4" ? 0x40000 : 0x60000;
  return flow_hash::finish(end_of(tuple, tuple.source, ports ? tuple.source_port : uint16_t{0}, key),
                           end_of(tuple, tuple.target, ports ? tuple.target_port : uint16_t{0}, key),
                           kind + (number ? tuple.number : 0), key);
}

// What docs/hash.md says of each kind.
inline uint32_t expected_hash(cluster::Kind kind, const Tuple& tuple, uint32_t vlan, const HashKey& key) {
  const bool ip = tuple.family != "mac";
  switch (kind) {
    case cluster::Kind::kFlow5:
      return hash_tuple(tuple, true, true, key);
    case cluster::Kind::kFlow4:
      return hash_tuple(tuple, true, false, key);
    case cluster::Kind::kTcp5:
      return hash_tuple(tuple, ip && tuple.number == 6, ip && tuple.number == 6, key);
    case cluster::Kind::kIp5:
      return hash_tuple(tuple, ip, ip, key);
    case cluster::Kind::kVlan:
      return flow_hash::finish(vlan, vlan, 0x20000, key);
    default:
      return hash_tuple(tuple, false, false, key);
  }
}

// For kind `ends`: of the address at one end.
inline uint32_t expected_end(const Tuple& tuple, const std::string& address, const HashKey& key) {
  const uint64_t end = end_of(tuple, address, 0, key);
  const uint32_t kind = tuple.family == "mac" ? 0x10000 : tuple.family == "4" ? 0x40000 : 0x60000;
  return flow_hash::finish(end, end, kind, key);
}

struct RecordedFrame {
  std::vector<std::byte> bytes;
  Tuple inner, outer;
  uint16_t first_vlan = 0, last_vlan = 0;
  uint32_t inner_l3 = 0;
  bool tunnel = false;
  bool fragment = false;
};

struct RecordedFile {
  std::string name;
  std::vector<RecordedFrame> frames;
};

inline RecordedFrame read_description(const std::string& line) {
  RecordedFrame frame;
  std::istringstream text(line);
  char bar = 0;
  frame.inner = read_tuple(text);
  text >> bar;
  frame.outer = read_tuple(text);
  text >> bar >> frame.first_vlan >> frame.last_vlan >> bar >> frame.inner_l3 >> bar;
  for (std::string word; text >> word;) {
    frame.tunnel |= word == "tunnel";
    frame.fragment |= word == "fragment";
  }
  return frame;
}

inline RecordedFile read_frame_file(const std::filesystem::path& pcap) {
  RecordedFile file{.name = pcap.stem().string(), .frames = {}};
  auto reader = pcapfile::Reader::open(pcap.string());
  if (!reader) throw std::runtime_error(reader.error().message());
  std::ifstream descriptions(std::filesystem::path(pcap).replace_extension(".txt"));
  pcapfile::Record record;
  for (std::string line; std::getline(descriptions, line);) {
    if (reader->next(record) != pcapfile::Reader::Status::kRecord)
      throw std::runtime_error(file.name + ": fewer frames than lines");
    file.frames.push_back(read_description(line));
    file.frames.back().bytes.assign(record.data, record.data + record.captured);
  }
  return file;
}

inline std::vector<RecordedFile> read_frame_files() {
  std::vector<RecordedFile> files;
  for (const auto& entry : std::filesystem::directory_iterator(RINGCAP_TEST_DATA "/frames"))
    if (entry.path().extension() == ".pcap") files.push_back(read_frame_file(entry.path()));
  std::ranges::sort(files, {}, &RecordedFile::name);
  return files;
}

}  // namespace ringcap::test
