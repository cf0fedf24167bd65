// What type a result has, and in which its sums are computed: the one rule, for calls and for all that speaks of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/kernel.h"

namespace conv1x1 {

// What the types of a call depend on, besides its arrays and the result asked for.
struct Factors {
  bool integers = false;           // weights, and bias and centre if there are such
  DType weights = DType::float32;  // of integers: their type; for wide ones, the smallest that holds them
  double largest = 0;              // weight, in magnitude
  double largest_bias = 0;         // likewise
  double largest_center = 0;       // likewise
  bool centered = false;
  size_t in_channels = 0;  // in each group
  bool quantized = false;
  bool keeps_integers = true;      // the activation: none, or a clamp
  bool clamps_to_integers = true;  // none, or a clamp between whole numbers
  bool clamps_beyond_int32 = false;
};

// Numbers of an array: their type, and of integers the largest magnitude that there may be.
struct Range {
  DType dtype;
  double largest;
};
Range range_of(DType);  // all of the type

// A magnitude as a double: itself up to 2^53, beyond that no less than it is.
double bound(uint64_t magnitude);

// Whether numbers of this type may be beyond int32. How large they are is then looked up, where sums must be exact.
bool is_wide(DType);

// Whether a result may be of this type.
bool is_result(DType);

struct Types {
  DType arithmetic, result;
};

// Why a call is refused for its types.
enum class Refusal : unsigned char {
  none,
  pixels,        // a quantised layer's pixels are of 8 bits
  beyond_int32,  // a sum of bytes might be, and nobody asked for a wider one
  inexact        // a sum of integers might be beyond what float64 holds exactly
};

// The type of the sums and that of the result: the data decide, `asked` (null: nothing was asked for) overrides the
// result's. Integer pixels, weights, bias and residual give exact integers: int32 where no sum of those types can be
// beyond it, else int64, except that 8-bit numbers are never widened without being asked to. Ranges decide on nothing
// but whether sums are exact.
Refusal choose_types(Range x, const Range* residual, const Factors&, const DType* asked, Types&);

// The largest magnitude of x's integers, less the centre, for which sums with the residual's are still exact in
// float64; nothing where there is none, or where a number just beyond it would be rounded to it.
std::optional<uint64_t> most_exact(const Range* residual, const Factors&);

// Whether all numbers of a call are integers.
bool sums_integers(Range x, const Range* residual, const Factors&);

// How far sums of integers can reach, channels · product + added, and how far they may.
struct Reach {
  double product, added, limit;
};
Reach reach(Range x, const Range* residual, const Factors&, Refusal);

}  // namespace conv1x1
