// What tests, measurements and `show_config` ask: kernels, restrictions, threads, the machine's limits.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <string>

namespace conv1x1 {

namespace py = pybind11;

// Blocks that set the number of threads: a number for each, with which to end it.
long begin_threads(int n);

// A block that ends before a later one leaves it what to go back to.
void end_threads(long id);

py::list list_kernels();

// Plans use this instruction set (none: the best), and this kernel and orientation where type and order fit.
void restrict_to(const std::optional<std::string>& isa, const std::optional<std::string>& kernel,
                 const std::optional<std::string>& orientation);

py::dict config();

// What one thread reaches at most, in 10⁹ operations a second, with the instruction set in use; int8: of the best
// kernel for integers.
double peak_gflops(const std::string& dtype);

// How fast one thread reads an array of so many bytes again and again, in GB/s.
double read_gbs(size_t bytes);

}  // namespace conv1x1
