#include "every_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "call/problem.h"
#include "call/result.h"
#include "definition.h"
#include "made_of_bytes.h"
#include "plan/program.h"
#include "run/convolve.h"
#include "some_layer.h"
#include "system/cpu.h"
#include "weights/weights.h"

namespace conv1x1 {
namespace {

constexpr DType floats[] = {DType::float32, DType::float64}, eight_bits[] = {DType::uint8, DType::int8},
                byte_types[] = {DType::uint8, DType::int8, DType::boolean},
                integers[] = {DType::uint8, DType::int8, DType::uint16, DType::int16, DType::int32},
                pixel_types[] = {DType::float32, DType::float64, DType::int32,  DType::float16, DType::bfloat16,
                                 DType::uint8,   DType::int8,    DType::uint16, DType::int16,   DType::boolean,
                                 DType::int64,   DType::uint32,  DType::uint64},
                weight_types[] = {DType::float32, DType::float64, DType::int32, DType::uint8,   DType::int8,
                                  DType::uint16,  DType::int16,   DType::int64, DType::boolean, DType::uint64},
                result_types[] = {DType::float32, DType::float64, DType::int32,  DType::float16, DType::bfloat16,
                                  DType::uint8,   DType::int8,    DType::uint16, DType::int16,   DType::int64};

// Where the pixels are, and how many channels they have.
struct Geometry {
  explicit Geometry(Bytes& bytes) {
    const auto some = [&](size_t few, size_t many) { return bytes.below(bytes.one_in(8) ? many : few); };
    groups = bytes.one_in(4) ? 1 + bytes.below(4) : 1;
    // What has kernels of its own as often as all else: few filters, few channels.
    const size_t kind = bytes.below(4);
    in_channels = kind == 1 ? some(5, 5) : kind == 2 ? 32 + some(40, 200) : some(50, 200);
    out_channels = kind == 1 || kind == 2 ? bytes.below(5) : some(20, 90);
    const size_t rank = 1 + bytes.below(4);
    axis = bytes.one_in(2) ? bytes.below(rank) : rank - 1;
    keep_axis = !(filters() == 1 && bytes.one_in(2));
    // Pixels: as many as can be multiplied in a hundred ways, sanitized, within a second.
    const bool boxes = rank > 2 && bytes.one_in(4);  // more than one, where x and y lie otherwise, and what remains
    size_t most = std::clamp<size_t>((1 << 18) / (filters() * in_channels + 1), 1, boxes ? 6000 : 1000);
    for (size_t i = 0; i < rank; ++i) {
      steps[i] = i != axis && bytes.one_in(4) ? 1 + bytes.below(3) : 1;
      const size_t n = i == axis ? groups * in_channels : std::min(most, boxes ? 30 + bytes.below(50) : some(20, 500));
      if (i != axis) most /= std::max<size_t>(n, 1);
      x_shape.push_back(static_cast<ptrdiff_t>(n));
      if (i != axis || keep_axis)
        y_shape.push_back(static_cast<ptrdiff_t>(i == axis ? filters() : (n + steps[i] - 1) / steps[i]));
    }
  }

  size_t filters() const { return groups * out_channels; }

  // The filter that an element of y is of.
  size_t filter(const Index& of_y) const { return keep_axis ? static_cast<size_t>(of_y[axis]) : 0; }

  // Where its channels begin in x.
  Index source(const Index& of_y) const {
    Index from = of_y;
    if (!keep_axis) from.insert(from.begin() + static_cast<ptrdiff_t>(axis), 0);
    for (size_t i = 0; i < from.size(); ++i) from[i] *= static_cast<ptrdiff_t>(steps[i]);
    from[axis] = static_cast<ptrdiff_t>(filter(of_y) / out_channels * in_channels);
    return from;
  }

  size_t groups, in_channels, out_channels;  // channels in each group
  size_t axis, steps[max_rank];
  bool keep_axis;
  Index x_shape, y_shape;
};

// Of wide integers, as the module does, what the array holds.
Range range_in(Placed& numbers) {
  Range range = range_of(numbers.dtype());
  if (!is_wide(range.dtype)) return range;
  range.largest = 0;
  numbers.for_each([&](const Index& index) {
    const double magnitude = std::abs(numbers.get(index));
    range.largest = std::max(range.largest, magnitude <= 0x1p53 ? bound(static_cast<uint64_t>(magnitude)) : magnitude);
  });
  return range;
}

// Whether the planner takes a candidate where that is asked for.
bool can_be_asked_for(const Problem& problem, Machine machine, const Candidate& c) {
  machine.only = {c.method, problem.arithmetic, c.orientation, c.family, c.vectors, c.stage_x, c.scratch_y, 0, 0};
  const Plan plan = make_plan(problem, machine, 1);
  return plan.method == c.method && plan.orientation == c.orientation && plan.family == c.family &&
         plan.vectors == c.vectors && plan.stage_x == c.stage_x && plan.scratch_y == c.scratch_y;
}

// Calls fn(plan) for every table of kernels: for what the planner chooses, and for every candidate that is not another
// table's too.
template <class Fn>
void for_each_plan(const Problem& problem, Machine machine, int threads, Fn fn) {
  std::set<std::pair<const MultiplyFn* const*, bool>> seen;  // an instruction set may have those of another
  for (const KernelTable* table : every_table()) {
    machine.table = table;
    fn(make_plan(problem, machine, threads));
    if (problem.pixels == 0 || problem.out_channels == 0) continue;
    size_t met = 0;
    for (const Candidate& candidate : candidates(problem, machine)) {
      if (seen.count({candidate.family->fn, candidate.family->turned})) continue;
      fn(make_plan(problem, machine, threads, candidate));
      if (met++ % 16 == 0 && !can_be_asked_for(problem, machine, candidate)) {
        std::fprintf(stderr, "a candidate that the planner does not take when asked to\n");
        std::abort();
      }
    }
    for (size_t f = 0; f < table->family_count; ++f) seen.insert({table->families[f].fn, table->families[f].turned});
  }
}

// What a convolution's arrays and weights hold.
struct TypeChoice {
  DType x, weight, bias, residual;
  std::optional<DType> result;  // where it is asked for
};

TypeChoice some_types(Bytes& bytes, bool quantized) {
  if (quantized) return {bytes.one_of(eight_bits), DType::int16, DType::int32, {}, bytes.one_of(eight_bits)};
  const bool asked = bytes.one_in(2);
  const auto choose = [&](const auto& x, const auto& weight, const auto& residual, const auto& result) {
    TypeChoice t{bytes.one_of(x), bytes.one_of(weight), bytes.one_of(weight), bytes.one_of(residual), {}};
    if (asked) t.result = bytes.one_of(result);
    return t;
  };
  switch (bytes.below(3)) {
    case 0: return choose(floats, floats, floats, floats);
    case 1: return choose(byte_types, integers, byte_types, result_types);
    default: return choose(pixel_types, weight_types, pixel_types, result_types);
  }
}

}  // namespace

Compared check_every_kernel(const uint8_t* data, size_t count) {
  Bytes bytes(data, count);
  const Geometry g(bytes);
  Numbers numbers(bytes);
  const bool quantized = bytes.one_in(4);
  const TypeChoice chosen = some_types(bytes, quantized);

  const bool biased = bytes.one_in(2), adds = !quantized && bytes.one_in(2);
  const int reach = bytes.one_in(2) ? 255 : 127;  // of weights less their zero point
  Numerals weight(bytes, chosen.weight, g.filters() * g.in_channels), bias(bytes, chosen.bias, g.filters()),
      scale(bytes, DType::float32, g.filters()), center(bytes, chosen.weight, g.groups * g.in_channels);
  weight.fill([&] { return quantized ? numbers.whole(-reach, reach) : numbers.next(chosen.weight); });
  if (biased) bias.fill([&] { return numbers.next(chosen.bias); });
  if (quantized) {
    scale.fill([&] {
      const double number = std::abs(numbers.next(DType::float32)) / 64;
      return std::isfinite(number) ? number : 0;
    });
  }
  const bool centered = !quantized && bytes.one_in(4);
  if (centered) center.fill([&] { return numbers.next(chosen.weight); });
  const Weights weights(weight.given(), biased ? bias.given() : Given{}, quantized ? scale.given() : Given{}, g.groups,
                        g.out_channels, g.in_channels, centered ? center.given() : Given{});

  const Epilogue epilogue = quantized ? some_quantization(bytes, *chosen.result) : some_activation(bytes);
  const Factors factors = factors_of(weights, epilogue);
  const DType* asked = chosen.result ? &*chosen.result : nullptr;
  Types types;
  Placed x(bytes, chosen.x, g.x_shape, Placed::Lies::maybe_repeatedly);
  Placed residual(bytes, chosen.residual, g.y_shape, Placed::Lies::maybe_repeatedly);
  x.fill([&] { return numbers.next(x.dtype()); });
  residual.fill([&] { return numbers.next(residual.dtype()); });
  x.seal();
  residual.seal();
  const Range added = range_in(residual);
  if (choose_types(range_in(x), adds ? &added : nullptr, factors, asked, types) != Refusal::none) return {};
  Placed y(bytes, types.result, g.y_shape, Placed::Lies::anyhow);

  const bool whole = is_integer(x.dtype()) && factors.integers && (!adds || is_integer(residual.dtype()));
  Definition definition{
      g.in_channels, g.out_channels,   weight.values,
      bias.values,   scale.values,     center.values,
      epilogue,      types.arithmetic, types.arithmetic == DType::int32 || (whole && is_integer(types.result)),
      false};
  std::vector<char> expected[2];  // y's memory: rounded twice, once
  std::vector<double> pixel(g.in_channels);
  for (const bool fused : {false, true}) {
    definition.fused = fused;
    y.forget();
    y.for_each([&](const Index& index) {
      Index from = g.source(index);
      for (double& channel : pixel) {
        channel = x.get(from);
        ++from[g.axis];
      }
      const double addend = residual.get(index);
      y.put(index, definition(pixel, g.filter(index), adds ? &addend : nullptr));
    });
    expected[fused] = y.image();
  }

  const Array x_array = x.array(), y_array = y.array(), residual_array = residual.array();
  Problem problem = make_problem(types.arithmetic, x_array, y_array, adds ? &residual_array : nullptr,
                                 static_cast<int>(g.axis), g.keep_axis, g.steps, g.groups, g.filters());
  problem.quantized = quantized;
  problem.narrow_weights = weights.narrow();
  problem.centered = centered;
  constexpr int numbers_of_threads[] = {1, 1, 3, 64};
  const int threads = bytes.one_of(numbers_of_threads);
  const bool new_thread = bytes.one_in(8);  // whose scratch is no larger than it must be
  Machine machine{nullptr, {}, cpu().costs};
  machine.costs.worth_threads = 0;
  machine.costs.l2_bytes = size_t{1} << (bytes.one_in(4) ? 13 : 20);  // small: more tiles, and blocks of channels
  if (bytes.one_in(4)) machine.only.tile_pixels = 1 + bytes.below(100);
  if (bytes.one_in(4)) machine.only.chunk_filters = 1 + bytes.below(40);
  Compared compared{0, x.dtype(), chosen.weight, types.arithmetic, types.result, quantized, centered};

  for_each_plan(problem, machine, threads, [&](Plan plan) {
    plan.threads = std::min(plan.threads, 3);  // who does which part does not matter
    const auto fail = [&](const char* what) {
      std::fprintf(stderr,
                   "%s: isa %s (fused %d), for %d threads, method %d, %zu vectors of %zu, orientation %d, staged %d, "
                   "scratch %d, tiles of %zu, chunks of %zu; "
                   "%zu pixels, %zu groups of %zu -> %zu; %s%s x %s + %s%s, in %s -> %s\n",
                   what, isa_name(plan.table->isa), plan.table->fused, threads, static_cast<int>(plan.method),
                   plan.vectors, plan.family->width, static_cast<int>(plan.orientation), plan.stage_x, plan.scratch_y,
                   plan.tile_pixels, plan.chunk_filters, problem.pixels, g.groups, g.in_channels, g.out_channels,
                   name(x.dtype()), centered ? " less a centre" : "", name(chosen.weight),
                   biased ? name(chosen.bias) : "nothing", adds ? " + a residual" : "", name(types.arithmetic),
                   quantized ? "quantized" : name(types.result));
      print_and_abort(data, count);
    };
    if (plan.chunks > 1 && plan.method != Method::multiply) fail("filters cut for a kernel that takes all");
    const Layer layer{&weights.packed(plan.family->operand, plan.family->width), epilogue};
    const Data arrays{x_array.data, y_array.data, adds ? residual_array.data : nullptr};
    const Program program = make_program(problem, plan);
    y.forget();
    bool finished = false;
    const auto run = [&] { finished = convolve(program, arrays, &layer, nullptr, nullptr); };
    new_thread ? std::thread(run).join() : run();
    if (!finished) fail("stopped unasked");
    ++compared.ways;
    compare(y, expected[plan.table->fused], fail);
  });
  return compared;
}

}  // namespace conv1x1
