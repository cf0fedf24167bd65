// libFuzzer's way into the core: whatever the bytes, every kernel, alone, in chains, between layers and in sums over
// pixels, gives what the definition does.
#include <cstddef>
#include <cstdint>

#include "every_chain.h"
#include "every_kernel.h"
#include "every_step.h"
#include "every_sum.h"
#include "system/thread_pool.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  conv1x1::make_pool();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  if (count == 0) return 0;
  switch (bytes[0] % 8) {
    case 0:
    case 4: conv1x1::check_every_step(bytes + 1, count - 1); break;
    case 2: conv1x1::check_every_kernel(bytes + 1, count - 1); break;
    case 6: conv1x1::check_every_sum(bytes + 1, count - 1, 300); break;
    default: conv1x1::check_every_chain(bytes + 1, count - 1);
  }
  return 0;
}
