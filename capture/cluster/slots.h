// Slots: who serves which part of a cluster's flows. A flow's hash names one of kSlots slots, and each slot
// has one member. Control thread only (and `ringcap balance`); workers see a copy of the table in their plan.
//
// A slot has a server (who gets its frames now) and a home (whose it is). They differ while the home's member
// is away: others serve the slot on loan.
//
//   join      first: every slot.
//             known name: its home slots, whoever serves them now; then others on loan, up to a fair share.
//             new name: a fair share (slots / members, rounded down) and no more, one slot at a time from
//             whoever has most, and of that one's first those that are on loan to it; they become the
//             newcomer's home. A name whose slots all went to newcomers is new again.
//   leave     its slots go, one at a time, to whoever has fewest. They stay its home.
//
// So the only flows that move are those of slots that the joining or leaving member serves before or after.
// A name that is away is remembered; of more than kMaxNames the one that left first is forgotten.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ringcap::cluster {

inline constexpr uint32_t kSlots = 4096;
inline constexpr uint32_t kSlotShift = 20;  // a slot is a hash's upper 12 bits
inline constexpr uint8_t kNobody = 0xff;
inline constexpr uint32_t kMaxMembers = 255;  // that serve at once
inline constexpr size_t kMaxNames = 1024;

constexpr uint32_t slot_of(uint32_t hash) { return hash >> kSlotShift; }

class Slots {
 public:
  // `count`: 1 to kSlots; fewer than kSlots where what is balanced has fewer values (queues, ports).
  explicit Slots(uint32_t count = kSlots);

  // `name` serves from now on; it must not do so already. Returns its number, free again after leave(): 0 to
  // kMaxMembers - 1, or kNobody: there are kMaxMembers.
  uint8_t join(const std::string& name);
  void leave(uint8_t number);

  // By slot, the number of the member that serves it, or kNobody.
  std::span<const uint8_t> table() const { return {servers_.data(), count_}; }
  uint32_t count() const { return count_; }
  uint32_t served_by(uint8_t number) const { return served_[number]; }
  // Members that serve, whether they have slots or not.
  uint32_t members() const { return members_; }
  // Slots that changed hands since the table was made.
  uint64_t moves() const { return moves_; }

 private:
  static constexpr uint16_t kNoHome = 0xffff;
  struct Name {
    std::string text;
    uint8_t number = kNobody;  // while it serves
    uint64_t left_at = 0;      // in the order of leaving
  };

  uint16_t remember(const std::string& name);
  uint8_t free_number() const;
  uint8_t with_most() const;
  uint8_t with_fewest() const;
  uint32_t take_from(uint8_t donor, uint16_t home);
  void serve(uint32_t slot, uint8_t number);

  uint32_t count_;
  std::array<uint8_t, kSlots> servers_;
  std::array<uint16_t, kSlots> homes_;             // index into names_
  std::array<uint32_t, kMaxMembers + 1> served_;   // by number
  std::array<uint16_t, kMaxMembers + 1> name_of_;  // by number
  std::vector<Name> names_;
  uint32_t members_ = 0;
  uint64_t leavings_ = 0;
  uint64_t moves_ = 0;
};

}  // namespace ringcap::cluster
