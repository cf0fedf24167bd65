// What tests, measurements and `show_config` ask: kernels, restrictions, threads, the machine's limits.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <string>

#include "arrays.h"
#include "plan/plan.h"

namespace conv1x1 {

namespace py = pybind11;

// Blocks that set the number of threads: a number for each, with which to end it.
long begin_threads(int n);

// A block that ends before a later one leaves it what to go back to.
void end_threads(long id);

py::list list_kernels();

// Plans use this instruction set (none: the best), and the rest of it as far as it fits.
void restrict_to(const std::optional<std::string>& isa, const std::optional<std::string>& kernel,
                 const std::optional<std::string>& orientation, std::optional<bool> stages_x,
                 std::optional<bool> scratches_y, std::optional<size_t> tile_pixels,
                 std::optional<size_t> chunk_filters);

// A plan in words, of a convolution whose sums and results are of these types.
py::dict plan_of(const Plan& plan, DType arithmetic, ElementType result);

py::dict config();

// What one thread reaches at most, in 10⁹ operations a second, with the instruction set in use; int8: of the best
// kernel for integers.
double peak_gflops(const std::string& dtype);

// How fast one thread reads an array of so many bytes again and again, in GB/s.
double read_gbs(size_t bytes);

}  // namespace conv1x1
