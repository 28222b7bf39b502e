// What a ringcap_t is. For the files that make up the C ABI.
#pragma once

#include <memory>

#include "libcap/client/client.h"
#include "libcap/client/ringcap.h"

#define RINGCAP_EXPORT __attribute__((visibility("default")))

struct ringcap_handle {
  std::unique_ptr<ringcap::client::Client> client;
  ringcap_error error{};
};
