// Scratch that stays with its thread, so that a repeated call allocates nothing.
#pragma once

#include <cstddef>

namespace conv1x1 {

// At least so many bytes, at an address of a cache line; null when memory is out. What there was stays then: a signal
// handler may compute in the middle of a call that has its scratch.
char* thread_scratch(size_t bytes) noexcept;

}  // namespace conv1x1
