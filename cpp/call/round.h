// Whole numbers divided and rounded upwards.
#pragma once

#include <cstddef>

namespace conv1x1 {

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
constexpr size_t round_up(size_t n, size_t multiple) { return ceil_div(n, multiple) * multiple; }

}  // namespace conv1x1
