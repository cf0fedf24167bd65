// A layer without its weights, and x's place in a call of it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <limits>
#include <optional>
#include <string>

#include "arrays.h"
#include "call/problem.h"
#include "call/result.h"
#include "run/convolve.h"
#include "weights/weights.h"

namespace conv1x1 {

// A Python int, brought into the range of long.
inline long clamped(PyObject* object) {
  int overflow = 0;
  const long n = PyLong_AsLongAndOverflow(object, &overflow);
  return overflow == 0 ? n : overflow > 0 ? std::numeric_limits<long>::max() : std::numeric_limits<long>::min();
}

// A layer without its weights.
struct Settings {
  int channel_axis = -1;
  bool keep_axis = true;
  int stride_count = -1;  // -1: `strides[0]` for the last two axes besides the channels
  size_t strides[max_rank] = {1};
  size_t out_channels = 0;
  Epilogue epilogue;
  std::optional<ElementType> result;
  int result_number = -1;       // NumPy's, of that type
  bool is_complex = false;      // whatever x and the residual are, by weights, bias or the result asked for
  std::optional<DType> pixels;  // of a quantised layer: the one type of x
  Factors factors;
};

// What a name and its parameters stand for.
Epilogue epilogue_of(const std::string& name, double a, double b);

// x's place in a call: its channel axis, the step along every axis, and the shape that comes out.
struct Geometry {
  int axis = 0;
  size_t steps[max_rank];
  int rank = 0;
  ptrdiff_t shape[max_rank];
};

// False where x does not fit a layer, or chain, of so many channels.
bool locate(const Settings& s, size_t channels, const Array& x, Geometry& g);

// Strides for a result that lies as `like` does, x or another of the result's shape: dense, in its memory order.
void lie_as(const Array& like, const Geometry& g, ElementType type, ptrdiff_t* strides);

}  // namespace conv1x1
