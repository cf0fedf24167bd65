#include "run/scratch.h"

#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <optional>

#include "system/nervous.h"

namespace conv1x1 {

// Not thread_local: for that the C library allocates at a thread's first use, and aborts where it cannot.
char* thread_scratch(size_t bytes) noexcept {
  static const std::optional<pthread_key_t> key = []() -> std::optional<pthread_key_t> {
    pthread_key_t made;
    if (pthread_key_create(&made, std::free) != 0) return std::nullopt;
    return made;
  }();
  if (!key) return nullptr;
  constexpr size_t header = 64;  // says how many bytes follow
  char* block = static_cast<char*>(pthread_getspecific(*key));
  // A nervous one is of that very size, so that a sanitizer sees what goes beyond it, and holds NaN of every type.
  if (!block || (nervous ? *reinterpret_cast<size_t*>(block) != bytes : *reinterpret_cast<size_t*>(block) < bytes)) {
    void* larger = nullptr;
    if (posix_memalign(&larger, 64, header + bytes) != 0) return nullptr;
    if (pthread_setspecific(*key, larger) != 0) {
      std::free(larger);
      return nullptr;
    }
    std::free(block);
    block = static_cast<char*>(larger);
    *reinterpret_cast<size_t*>(block) = bytes;
  }
  if (nervous) std::memset(block + header, 0xff, bytes);
  return block + header;
}

}  // namespace conv1x1
