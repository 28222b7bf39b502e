#include "capture/cluster/slots.h"

#include <algorithm>

namespace ringcap::cluster {

Slots::Slots(uint32_t count) : count_(std::clamp(count, 1u, kSlots)) {
  servers_.fill(kNobody);
  homes_.fill(kNoHome);
  served_.fill(0);
  name_of_.fill(kNoHome);
  served_[kNobody] = count_;
}

void Slots::serve(uint32_t slot, uint8_t number) {
  if (servers_[slot] == number) return;
  --served_[servers_[slot]];
  ++served_[number];
  servers_[slot] = number;
  ++moves_;
}

// The index of `name`, which is added if it is not known; then the one that left first may be forgotten.
uint16_t Slots::remember(const std::string& name) {
  const auto known = std::ranges::find(names_, name, &Name::text);
  if (known != names_.end()) return static_cast<uint16_t>(known - names_.begin());
  if (names_.size() < kMaxNames) {
    names_.push_back({name, kNobody, 0});
    return static_cast<uint16_t>(names_.size() - 1);
  }
  const auto away = [](const Name& n) { return n.number == kNobody ? n.left_at : ~uint64_t{0}; };
  const auto oldest = std::ranges::min_element(names_, {}, away);
  *oldest = {name, kNobody, 0};
  const auto index = static_cast<uint16_t>(oldest - names_.begin());
  std::ranges::replace(homes_, index, kNoHome);
  return index;
}

uint8_t Slots::free_number() const {
  const auto end = name_of_.begin() + kMaxMembers;
  return static_cast<uint8_t>(std::find(name_of_.begin(), end, kNoHome) - name_of_.begin());
}

uint8_t Slots::with_most() const {
  uint8_t best = kNobody;
  for (uint32_t n = 0; n < kMaxMembers; ++n)
    if (name_of_[n] != kNoHome && (best == kNobody || served_[n] > served_[best]))
      best = static_cast<uint8_t>(n);
  return best;
}

uint8_t Slots::with_fewest() const {
  uint8_t best = kNobody;
  for (uint32_t n = 0; n < kMaxMembers; ++n)
    if (name_of_[n] != kNoHome && (best == kNobody || served_[n] < served_[best]))
      best = static_cast<uint8_t>(n);
  return best;
}

// A slot of `donor` for a newcomer: one that is on loan to it, if there is any. `home`: the donor's own.
uint32_t Slots::take_from(uint8_t donor, uint16_t home) {
  uint32_t own = count_;
  for (uint32_t slot = 0; slot < count_; ++slot) {
    if (servers_[slot] != donor) continue;
    if (homes_[slot] != home) return slot;
    if (own == count_) own = slot;
  }
  return own;
}

uint8_t Slots::join(const std::string& name) {
  const uint8_t number = free_number();
  if (number == kNobody) return kNobody;
  const uint16_t index = remember(name);
  names_[index].number = number;
  name_of_[number] = index;
  ++members_;
  const bool newcomer = std::find(homes_.begin(), homes_.begin() + count_, index) == homes_.begin() + count_;
  for (uint32_t slot = 0; slot < count_; ++slot)
    if (homes_[slot] == index || servers_[slot] == kNobody) {
      if (homes_[slot] == kNoHome) homes_[slot] = index;
      serve(slot, number);
    }
  const uint32_t share = count_ / members_;
  while (served_[number] < share) {
    const uint8_t donor = with_most();
    const uint32_t slot = take_from(donor, name_of_[donor]);
    if (newcomer) homes_[slot] = index;
    serve(slot, number);
  }
  return number;
}

void Slots::leave(uint8_t number) {
  Name& name = names_[name_of_[number]];
  name.number = kNobody;
  name.left_at = ++leavings_;
  name_of_[number] = kNoHome;
  --members_;
  for (uint32_t slot = 0; slot < count_; ++slot)
    if (servers_[slot] == number) serve(slot, with_fewest());
}

}  // namespace ringcap::cluster
