// libFuzzer's way into the core: whatever the bytes, every kernel, alone and in chains, gives what the definition does.
#include <cstddef>
#include <cstdint>

#include "every_chain.h"
#include "every_kernel.h"
#include "system/thread_pool.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  conv1x1::make_pool();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  if (count > 0 && bytes[0] % 2)
    conv1x1::check_every_chain(bytes + 1, count - 1);
  else if (count > 0)
    conv1x1::check_every_kernel(bytes + 1, count - 1);
  return 0;
}
