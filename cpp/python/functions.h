// The module's functions that calls pass through. They are defined without pybind11: with no memory left, that turns
// MemoryError into TypeError, and its thread-local data, which the C library allocates at a thread's first use, make
// the process abort.
#pragma once

#include <pybind11/pybind11.h>

namespace conv1x1 {

extern PyMethodDef functions[];

}  // namespace conv1x1
