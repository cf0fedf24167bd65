#include "system/memory.h"

#include <cstdlib>
#include <limits>
#include <new>

namespace conv1x1 {

void FreeAligned::operator()(char* p) const noexcept { std::free(p); }

Buffer allocate(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() / 2) throw std::bad_alloc();
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes ? bytes : 1) != 0) throw std::bad_alloc();
  return Buffer(static_cast<char*>(p));
}

}  // namespace conv1x1
