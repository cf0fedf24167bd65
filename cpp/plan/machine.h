// What the planner may use: kernels, and what it knows of the processor. Any machine can be described on any other.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/kernel.h"

namespace conv1x1 {

enum class Orientation : unsigned char { pixels_as_rows, pixels_as_lanes };

// What tests and measurements ask for instead of the planner's choice, wherever type and order of summation fit.
struct Restriction {
  const MultiplyFamily* family = nullptr;
  size_t vectors = 0;
  std::optional<Orientation> orientation;
};

struct Machine {
  const KernelTable* table;
  Restriction only;
  bool halves_pair_up = false;
  size_t l2_bytes = 1 << 20;
  double worth_threads = 60;  // microseconds of work, below which waking another thread costs more than it brings
};

}  // namespace conv1x1
