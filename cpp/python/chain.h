// The chain's type, `_conv1x1.Chain`: layers, and what stands between and behind
// them, whose pixels go through all of it a tile at a time, as one program.
#pragma once

#include <pybind11/pybind11.h>

namespace conv1x1 {

extern PyType_Spec chain_type;

}  // namespace conv1x1
