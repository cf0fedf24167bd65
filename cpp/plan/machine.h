// What the planner may use: kernels, and what things cost with them. Any machine can be described on any other.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/kernel.h"
#include "system/costs.h"

namespace conv1x1 {

// What multiplies: the kernel of rows × lanes, or one of the special ones.
enum class Method : unsigned char { multiply, few_filters, few_filters_lanes, few_channels };

enum class Orientation : unsigned char { pixels_as_rows, pixels_as_lanes };

// What tests and measurements ask for instead of the planner's choice, wherever it fits: each as far as there is a
// candidate that fulfils it and those before it.
struct Restriction {
  std::optional<Method> method;
  DType method_sums = DType::float32;  // for calls whose sums are of this type
  std::optional<Orientation> orientation;
  const MultiplyFamily* family = nullptr;
  size_t vectors = 0;
  std::optional<bool> stage_x, scratch_y;
  size_t tile_pixels = 0;    // at most, in a tile; 0: as the planner does
  size_t chunk_filters = 0;  // likewise; whole vectors of them, and all where the method takes all

  // Whether it has a say in what multiplies and what is moved.
  bool chooses() const { return method || orientation || family || stage_x || scratch_y; }

  // Whether it has a say in anything.
  bool restricts() const { return chooses() || tile_pixels || chunk_filters; }
};

struct Machine {
  const KernelTable* table = nullptr;
  Restriction only;
  Costs costs;
};

}  // namespace conv1x1
