// What is done to the channels of pixels, and to pixels, between the layers of a chain: on blocks of numbers in the
// type of the sums, which Python has cut.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>

namespace conv1x1 {

namespace py = pybind11;

// over_channels(step, x, y, weight, bias, eps): a softmax, layer_norm or arg_max of x, (pixels, channels, pixels) in C
// order, into y, of the same shape, which may be x; of arg_max into (pixels, pixels) of int32.
void over_channels(const std::string& step, const py::array& x, const py::array& y, const py::object& weight,
                   const py::object& bias, double eps);

// Sums over pixels: begun for so many, taken further by arrays of (pixels…, channels) of any strides, in C order, and
// ended with a row, (channels,).
py::capsule begin_pool(const std::string& kind, bool wide, size_t channels, size_t pixels);
void add_to_pool(const py::capsule& pool, const py::array& x);
void end_pool(const py::capsule& pool, const py::array& row);

}  // namespace conv1x1
