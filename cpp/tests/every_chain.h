// A chain of one to four layers made from bytes, run by every instruction set in several ways, and compared with the
// definition: its elements called one after another.
//
// The bytes decide on all that they do for a single convolution (every_kernel.h), on the layers' widths, groups and
// types, and on what is asked of the planner for each of them: method, kernel, orientation, what is staged and what
// goes through scratch, which way round it hands on, and how small tiles are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel.h"

namespace conv1x1 {

// How a layer was computed: rows and lanes by the multiply kernel, few filters over either, few channels.
constexpr size_t way_count = 5;

struct ComparedChain {
  size_t ways = 0;  // it was computed in; none where the types of a layer do not fit together
  size_t layers = 0;
  bool quantized = false;               // one of them is
  bool handed[dtype_count] = {};        // types of what was handed on
  bool met[way_count][way_count] = {};  // [of a layer][of the next]
  bool turned[2][2] = {};               // [the layer's pixels are lanes][and so are those of what it hands on]
};

// Where there shall be helpers, after make_pool().
ComparedChain check_every_chain(const uint8_t* bytes, size_t count);

}  // namespace conv1x1
