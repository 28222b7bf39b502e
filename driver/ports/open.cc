#include "driver/ports/open.h"

#include <fmt/format.h>

#include "driver/gen/port.h"
#include "driver/packet/port.h"
#include "driver/pcap/port.h"
