// What the planner may use: kernels, and what things cost with them. Any machine can be described on any other.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/kernel.h"
#include "system/costs.h"

namespace conv1x1 {

enum class Orientation : unsigned char { pixels_as_rows, pixels_as_lanes };

// What tests and measurements ask for instead of the planner's choice, wherever type and order of summation fit.
struct Restriction {
  const MultiplyFamily* family = nullptr;
  size_t vectors = 0;
  std::optional<Orientation> orientation;
};

struct Machine {
  const KernelTable* table = nullptr;
  Restriction only;
  Costs costs;
};

}  // namespace conv1x1
