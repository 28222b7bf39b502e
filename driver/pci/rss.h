// Receive-side scaling: which of a NIC's queues gets a frame. The NIC hashes addresses and ports with a key
// of 40 bytes (Toeplitz, as Microsoft's "RSS Hashing Functions" has it) and looks the last 7 bits up in a
// table.
//
// It decides which worker does the work, and nothing else: which member of a cluster gets a frame is decided
// by the software's hash (capture/frame/hash.h). The key is drawn at random at each start. It is not
// symmetric: a Toeplitz hash is linear, so that one which is equal for both directions of a flow can only
// depend on source XOR destination. Then all pairs of addresses that differ in the same bits get one queue
// (servers and clients of a structured network), and with ports in it the key has 16 bits, not 320. So the
// two directions of a flow may come through different workers; separated() says how often.
//
// Control thread, while a port starts; tests.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace ringcap::pci {

using RssKey = std::array<uint8_t, 40>;

RssKey random_rss_key();

// `input`: source address, destination address and, where they are hashed, source port, destination port; as
// they are in the frame, at most 36 bytes.
uint32_t toeplitz(const RssKey& key, std::span<const uint8_t> input);

inline constexpr uint32_t kRssTableEntries = 128;

// The queue of hash value `hash` where `queues` share the table evenly.
inline uint32_t rss_queue(uint32_t hash, uint32_t queues) { return hash % kRssTableEntries % queues; }

// Of 100 flows, how many have their two directions in different queues (TCP over IPv4, any addresses).
uint32_t separated_percent(const RssKey& key, uint32_t queues);

// What an operator should know about a port with so many queues, in a sentence.
std::string rss_remark(const RssKey& key, uint32_t queues);

}  // namespace ringcap::pci
