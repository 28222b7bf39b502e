// What driver and device keep in memory for each other: how the device is set up, its queues, its statistics.
// Field names as in Linux's vmxnet3_defs.h and upt1_defs.h; revision 1, sizes and places are the device's.
//
//   a page: | Shared, 720 bytes | ... | at 1024: TxQueueDesc, one a queue | RxQueueDesc, one a queue |
//
// Written by the driver while the device is not active, but where it says that the device writes; the rest
// the device reads when it is told to by a command.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringcap::vmxnet3 {

struct DriverInfo {
  uint32_t version;
  uint32_t gos;  // the guest: 64 bits, Linux
  uint32_t vmxnet3RevSpt;
  uint32_t uptVerSpt;
};

struct MiscConf {
  DriverInfo driverInfo;
  uint64_t uptFeatures;  // 0: no checksums, no RSS, no VLAN stripping, no merging (LRO)
  uint64_t ddPA;
  uint64_t queueDescPA;
  uint32_t ddLen;
  uint32_t queueDescLen;
  uint32_t mtu;
  uint16_t maxNumRxSG;  // descriptors that a received frame may take
  uint8_t numTxQueues;
  uint8_t numRxQueues;
  uint32_t reserved[4];
};
static_assert(sizeof(MiscConf) == 72);

struct IntrConf {
  uint8_t autoMask;  // the device masks an interrupt that it fires
  uint8_t numIntrs;
  uint8_t eventIntrIdx;
  uint8_t modLevels[25];
  uint32_t intrCtrl;  // bit 0: all off
  uint32_t reserved[2];
};
static_assert(sizeof(IntrConf) == 40);

struct RxFilterConf {
  uint32_t rxMode;
  uint16_t mfTableLen;
  uint16_t pad;
  uint64_t mfTablePA;
  uint32_t vfTable[128];  // a bit for each VLAN that comes in
};
static_assert(sizeof(RxFilterConf) == 528);

struct VariableLenConfDesc {
  uint32_t confVer;
  uint32_t confLen;
  uint64_t confPA;
};

struct Shared {
  uint32_t magic;
  uint32_t pad;
  MiscConf misc;
  IntrConf intrConf;
  RxFilterConf rxFilterConf;
  VariableLenConfDesc rssConfDesc, pmConfDesc, pluginConfDesc;
  uint32_t ecr;  // written by the device: events; read by the control thread and, with one vector, the worker
  uint32_t reserved[5];
};
static_assert(offsetof(Shared, ecr) == 696 && sizeof(Shared) == 720);
inline constexpr uint32_t kMagic = 0xBABEFEE1;

// Written by the device.
struct QueueStatus {
  uint8_t stopped;
  uint8_t pad[3];
  uint32_t error;
};

inline constexpr size_t kStatistics = 10;

struct TxQueueDesc {
  uint32_t txNumDeferred;
  uint32_t txThreshold;  // written by the device
  uint64_t reserved1;
  uint64_t txRingBasePA, dataRingBasePA, compRingBasePA, ddPA, reserved2;
  uint32_t txRingSize, dataRingSize, compRingSize, ddLen;  // descriptors
  uint8_t intrIdx;
  uint8_t pad1[7];
  QueueStatus status;
  uint64_t stats[kStatistics];  // written by the device; statistics.cc has their names
  uint8_t pad2[88];
};
static_assert(offsetof(TxQueueDesc, intrIdx) == 72 && offsetof(TxQueueDesc, stats) == 88 &&
              sizeof(TxQueueDesc) == 256);

struct RxQueueDesc {
  uint8_t updateRxProd;  // written by the device: it wants to be told of refilled slots
  uint8_t pad1[7];
  uint64_t reserved1;
  uint64_t rxRingBasePA[2], compRingBasePA, ddPA, reserved2;
  uint32_t rxRingSize[2], compRingSize, ddLen;  // descriptors
  uint8_t intrIdx;
  uint8_t pad2[7];
  QueueStatus status;
  uint64_t stats[kStatistics];  // written by the device
  uint8_t pad3[88];
};
static_assert(offsetof(RxQueueDesc, intrIdx) == 72 && offsetof(RxQueueDesc, stats) == 88 &&
              sizeof(RxQueueDesc) == 256);

inline constexpr uint32_t kQueuesOffset = 1024, kSharedBytes = 4096;

}  // namespace ringcap::vmxnet3
