// libFuzzer's way into the core: whatever the bytes, every kernel gives what the definition does.
#include <cstddef>
#include <cstdint>

#include "every_kernel.h"
#include "system/thread_pool.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  conv1x1::make_pool();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  conv1x1::check_every_kernel(bytes, count);
  return 0;
}
