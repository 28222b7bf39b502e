// Memory fences that the thread sanitizer understands as well: it does not follow atomic_thread_fence,
// but it does follow a sequentially consistent read-modify-write.
#pragma once

#include <atomic>

namespace ringcap {

#if defined(__SANITIZE_THREAD__)
#define RINGCAP_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RINGCAP_THREAD_SANITIZER 1
#endif
#endif

#if defined(RINGCAP_THREAD_SANITIZER)
namespace internal {
inline std::atomic<int> fence_word{0};
}
inline void full_fence() { internal::fence_word.fetch_add(0, std::memory_order_seq_cst); }
inline void release_fence() { internal::fence_word.fetch_add(0, std::memory_order_acq_rel); }
inline void acquire_fence() { internal::fence_word.fetch_add(0, std::memory_order_acq_rel); }
#else
// A store before it is seen by others before a load after it is done: the two sides of going to sleep.
inline void full_fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void release_fence() { std::atomic_thread_fence(std::memory_order_release); }
inline void acquire_fence() { std::atomic_thread_fence(std::memory_order_acquire); }
#endif

}  // namespace ringcap
