// Memory for vectors.
#pragma once

#include <cstddef>
#include <memory>

namespace conv1x1 {

// 64-byte aligned, uninitialised; throws std::bad_alloc.
struct FreeAligned {
  void operator()(char* p) const noexcept;
};
using Buffer = std::unique_ptr<char[], FreeAligned>;
Buffer allocate(size_t bytes);

}  // namespace conv1x1
