#include "steps.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "arrays.h"
#include "run/pool.h"
#include "selection.h"
#include "system/fp_environment.h"

namespace conv1x1 {

namespace {

struct Pooling {
  Pooling(DType type, PoolKind kind, size_t channel_count, size_t pixels)
      : memory(PoolSums::bytes(type, channel_count, pixels) / sizeof(double) + 1),
        dtype(type),
        channels(channel_count),
        pixels_left(pixels),
        sums(*machine().table, type, kind, channel_count, reinterpret_cast<char*>(memory.data())) {}

  std::vector<double> memory;
  DType dtype;
  size_t channels, pixels_left;
  PoolSums sums;
};

constexpr const char* capsule_name = "conv1x1.pool";

Array seen(const py::handle& array) {
  Array a;
  if (!view(array.ptr(), a) || a.swapped || a.is_complex) throw py::type_error("expected an array of the core's types");
  return a;
}

// The array's numbers, where it is one of so many.
const char* numbers(const py::object& array, DType dtype, size_t count) {
  if (array.is_none()) return nullptr;
  const Array a = seen(array);
  if (a.dtype != dtype || a.rank != 1 || static_cast<size_t>(a.shape[0]) != count || !contiguous(array.ptr()))
    throw py::value_error("expected a number for each channel");
  return a.data;
}

Pooling& pooling(const py::capsule& pool) {
  void* found = PyCapsule_GetPointer(pool.ptr(), capsule_name);
  if (!found) throw py::error_already_set();
  return *static_cast<Pooling*>(found);
}

// Pixels of all axes but the last, in C order.
void add_pixels(PoolSums& sums, const Array& x, int axis, const char* at) {
  const ptrdiff_t channel = x.strides[x.rank - 1];
  if (axis == x.rank - 1) return sums.add(at, 0, channel, 1);
  if (axis == x.rank - 2) return sums.add(at, x.strides[axis], channel, static_cast<size_t>(x.shape[axis]));
  for (ptrdiff_t i = 0; i < x.shape[axis]; ++i) add_pixels(sums, x, axis + 1, at + i * x.strides[axis]);
}

}  // namespace

void over_channels(const std::string& step, const py::array& x_array, const py::array& y_array,
                   const py::object& weight, const py::object& bias, double eps) {
  const Array x = seen(x_array), y = seen(y_array);
  const bool index = step == "arg_max";
  const KernelTable& table = *machine().table;
  const OverChannelsFn* const found = index                  ? table.arg_max
                                      : step == "softmax"    ? table.softmax
                                      : step == "layer_norm" ? table.layer_norm
                                                             : nullptr;
  const bool fits = x.rank == 3 && y.rank == (index ? 2 : 3) && contiguous(x_array.ptr()) &&
                    contiguous(y_array.ptr()) && writeable(y_array.ptr()) &&
                    y.dtype == (index ? DType::int32 : x.dtype) && y.shape[0] == x.shape[0] &&
                    y.shape[y.rank - 1] == x.shape[2] && (index || y.shape[1] == x.shape[1]) &&
                    (x.dtype == DType::float32 || x.dtype == DType::float64);
  if (!found || !fits) throw py::value_error("expected blocks of (pixels, channels, pixels)");
  const size_t channels = static_cast<size_t>(x.shape[1]), inner = static_cast<size_t>(x.shape[2]);
  const char *weights = numbers(weight, x.dtype, channels), *biases = numbers(bias, x.dtype, channels);
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(x.dtype)), row = x.shape[2] * size;
  const OverChannelsFn run = found[static_cast<size_t>(x.dtype)];
  const DefaultArithmetic arithmetic_mode;
  if (inner == 1) {
    const ptrdiff_t pixel = x.shape[1] * size;
    run({x.data, pixel, size, y.data, pixel, size, static_cast<size_t>(x.shape[0]), channels, weights, biases, eps});
    return;
  }
  const ptrdiff_t y_row = index ? x.shape[2] * 4 : row * x.shape[1];
  for (ptrdiff_t i = 0; i < x.shape[0]; ++i)
    run({x.data + i * row * x.shape[1], size, row, y.data + i * y_row, size, row, inner, channels, weights, biases,
         eps});
}

py::capsule begin_pool(const std::string& kind, bool wide, size_t channels, size_t pixels) {
  const PoolKind known = kind == "max" ? PoolKind::max : kind == "mean" ? PoolKind::mean : PoolKind::sum;
  auto made = std::make_unique<Pooling>(wide ? DType::float64 : DType::float32, known, channels, pixels);
  py::capsule pool(made.get(), capsule_name,
                   [](PyObject* object) { delete static_cast<Pooling*>(PyCapsule_GetPointer(object, capsule_name)); });
  made.release();
  return pool;
}

void add_to_pool(const py::capsule& pool, const py::array& x_array) {
  Pooling& p = pooling(pool);
  const Array x = seen(x_array);
  size_t pixels = 1;
  for (int i = 0; i < x.rank - 1; ++i) pixels *= static_cast<size_t>(x.shape[i]);
  if (x.rank == 0 || x.dtype != p.dtype || static_cast<size_t>(x.shape[x.rank - 1]) != p.channels ||
      pixels > p.pixels_left)
    throw py::value_error("expected pixels of the channels that are pooled");
  p.pixels_left -= pixels;
  const DefaultArithmetic arithmetic_mode;
  add_pixels(p.sums, x, 0, x.data);
}

void end_pool(const py::capsule& pool, const py::array& row) {
  Pooling& p = pooling(pool);
  char* const to = const_cast<char*>(numbers(row, p.dtype, p.channels));
  if (!to || !writeable(row.ptr())) throw py::value_error("expected a row to write to");
  const DefaultArithmetic arithmetic_mode;
  std::memcpy(to, p.sums.total(), p.channels * size_of(p.dtype));
}

}  // namespace conv1x1
