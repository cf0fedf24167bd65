#include "every_chain.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "call/problem.h"
#include "call/result.h"
#include "definition.h"
#include "elements.h"
#include "made_of_bytes.h"
#include "plan/program.h"
#include "run/convolve.h"
#include "some_layer.h"
#include "system/cpu.h"
#include "weights/weights.h"

namespace conv1x1 {
namespace {

constexpr DType eight_bits[] = {DType::uint8, DType::int8},
                pixel_types[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16, DType::uint8,
                                 DType::int8,    DType::uint16,  DType::int16,   DType::boolean,  DType::int32},
                weight_types[] = {DType::float32, DType::float64, DType::int8, DType::int16},
                result_types[] = {DType::float32, DType::float64, DType::int32,  DType::float16, DType::bfloat16,
                                  DType::uint8,   DType::int8,    DType::uint16, DType::int16};

// A layer with its numbers, and what they give.
struct Element {
  std::unique_ptr<Numerals> weight, bias, scale, center;
  std::unique_ptr<Weights> weights;
  Link link;
  Definition definition;

  size_t in_channels() const { return link.groups * link.in_channels; }
  size_t filters() const { return link.groups * link.out_channels; }

  // Of all channels of a pixel.
  std::vector<double> operator()(const std::vector<double>& pixel, bool fused, const std::vector<double>& residual) {
    definition.fused = fused;
    std::vector<double> results;
    for (size_t k = 0; k < filters(); ++k) {
      const auto first = pixel.begin() + static_cast<ptrdiff_t>(k / link.out_channels * link.in_channels);
      const std::vector<double> channels(first, first + static_cast<ptrdiff_t>(link.in_channels));
      results.push_back(definition(channels, k, residual.empty() ? nullptr : &residual[k]));
    }
    return results;
  }
};

// As it is read again once it is of that type.
double rounded(double number, DType dtype) {
  char bytes[8];
  set_element(bytes, dtype, false, number);
  return element(bytes, dtype);
}

// Makes a layer over so many channels of that type; false where their types do not fit. `residual`: null for none.
bool make(Bytes& bytes, Numbers& numbers, size_t channels, DType x, const DType* residual, Element& e) {
  Link& link = e.link;
  link.quantized = (x == DType::uint8 || x == DType::int8) && !residual && bytes.one_in(2);
  link.groups = bytes.one_in(3) ? 1 + bytes.below(12) : 1;
  if (channels % link.groups != 0) link.groups = channels % 2 == 0 ? 2 : 1;
  // Few filters over many channels can only be followed by the like where there are groups of them.
  const bool grouped = channels >= 256 && bytes.one_in(2);
  if (grouped) link.groups = 8;
  link.in_channels = channels / link.groups;
  link.out_channels = grouped           ? 4
                      : bytes.one_in(2) ? bytes.below(5)
                                        : 1 + bytes.below(bytes.one_in(4) ? 70 / link.groups + 1 : 12);
  const DType of_weight = link.quantized ? DType::int16 : bytes.one_of(weight_types);
  const DType of_bias = link.quantized ? DType::int32 : of_weight;
  const bool biased = bytes.one_in(2);
  const int reach = bytes.one_in(2) ? 255 : 127;  // of weights less their zero point
  e.weight = std::make_unique<Numerals>(bytes, of_weight, e.filters() * link.in_channels);
  e.bias = std::make_unique<Numerals>(bytes, of_bias, e.filters());
  e.scale = std::make_unique<Numerals>(bytes, DType::float32, e.filters());
  e.center = std::make_unique<Numerals>(bytes, of_weight, channels);
  e.weight->fill([&] { return link.quantized ? numbers.whole(-reach, reach) : numbers.next(of_weight); });
  if (biased) e.bias->fill([&] { return numbers.next(of_bias); });
  link.centered = !link.quantized && bytes.one_in(4);
  if (link.centered) e.center->fill([&] { return numbers.next(of_weight); });
  if (link.quantized) e.scale->fill([&] { return std::abs(numbers.whole(-99, 99)) / 512; });
  e.weights = std::make_unique<Weights>(e.weight->given(), biased ? e.bias->given() : Given{},
                                        link.quantized ? e.scale->given() : Given{}, link.groups, link.out_channels,
                                        link.in_channels, link.centered ? e.center->given() : Given{});
  link.narrow_weights = e.weights->narrow();
  const DType asked = link.quantized ? bytes.one_of(eight_bits) : bytes.one_of(result_types);
  const bool asks = link.quantized || bytes.one_in(2);
  const Epilogue epilogue = link.quantized ? some_quantization(bytes, asked) : some_activation(bytes);
  const Factors factors = factors_of(*e.weights, epilogue);
  Range added{};
  if (residual) added = range_of(*residual);
  Types types;
  if (choose_types(range_of(x), residual ? &added : nullptr, factors, asks ? &asked : nullptr, types) != Refusal::none)
    return false;
  link.arithmetic = types.arithmetic;
  link.result = types.result;
  const bool whole = is_integer(x) && factors.integers && (!residual || is_integer(*residual));
  e.definition = {link.in_channels,
                  link.out_channels,
                  e.weight->values,
                  e.bias->values,
                  e.scale->values,
                  e.center->values,
                  epilogue,
                  types.arithmetic,
                  types.arithmetic == DType::int32 || (whole && is_integer(types.result)),
                  false};
  return true;
}

// Where the pixels are.
struct Place {
  Place(Bytes& bytes, size_t in_channels, size_t filters) {
    const size_t rank = 1 + bytes.below(4);
    axis = bytes.one_in(2) ? bytes.below(rank) : rank - 1;
    keep_axis = !(filters == 1 && bytes.one_in(2));
    const bool boxes = rank > 2 && bytes.one_in(4);  // more than one, where x and y lie otherwise, and what remains
    size_t most = boxes ? 3000 : 400;
    for (size_t i = 0; i < rank; ++i) {
      steps[i] = i != axis && bytes.one_in(4) ? 1 + bytes.below(3) : 1;
      const size_t n = i == axis ? in_channels : std::min(most, boxes ? 30 + bytes.below(30) : bytes.below(40));
      if (i != axis) most /= std::max<size_t>(n, 1);
      x_shape.push_back(static_cast<ptrdiff_t>(n));
      if (i != axis || keep_axis)
        y_shape.push_back(static_cast<ptrdiff_t>(i == axis ? filters : (n + steps[i] - 1) / steps[i]));
    }
  }

  // Calls fn(x's pixel, y's), each with a channel of 0, for every pixel.
  template <class Fn>
  void for_each_pixel(Fn fn) const {
    Index pixels = y_shape;
    if (keep_axis) pixels[axis] = std::min<ptrdiff_t>(pixels[axis], 1);
    if (std::find(pixels.begin(), pixels.end(), 0) != pixels.end()) return;
    Index of_y(pixels.size());
    do {
      Index of_x = of_y;
      if (!keep_axis) of_x.insert(of_x.begin() + static_cast<ptrdiff_t>(axis), 0);
      for (size_t i = 0; i < of_x.size(); ++i) of_x[i] *= static_cast<ptrdiff_t>(steps[i]);
      fn(of_x, of_y);
    } while (next_index(of_y, pixels));
  }

  // All channels there.
  std::vector<double> channels(const Placed& numbers, Index at, size_t count, bool along_axis) const {
    std::vector<double> values;
    for (size_t c = 0; c < count; ++c) {
      if (along_axis) at[axis] = static_cast<ptrdiff_t>(c);
      values.push_back(numbers.get(at));
    }
    return values;
  }

  size_t axis, steps[max_rank];
  bool keep_axis;
  Index x_shape, y_shape;
};

// Something that the planner is asked for, or nothing.
Restriction some_restriction(std::mt19937& random, const KernelTable& table, DType arithmetic) {
  Restriction only;
  const auto below = [&](size_t n) { return random() % n; };
  const auto maybe = [&](auto value) { return below(2) ? decltype(std::optional(value)){} : value; };
  if (below(2)) only.method = static_cast<Method>(below(4));
  only.method_sums = arithmetic;
  only.orientation = maybe(static_cast<Orientation>(below(2)));
  only.stage_x = maybe(below(2) == 1);
  only.scratch_y = maybe(below(2) == 1);
  if (below(2)) {
    only.family = &table.families[below(table.family_count)];
    only.vectors = 1 + below(only.family->max_vectors);
  }
  if (below(4) == 0) only.chunk_filters = 1 + below(20);
  return only;
}

size_t way_of(const Plan& plan) {
  return plan.method == Method::multiply ? static_cast<size_t>(plan.orientation) : 1 + static_cast<size_t>(plan.method);
}

}  // namespace

ComparedChain check_every_chain(const uint8_t* data, size_t count) {
  Bytes bytes(data, count);
  Numbers numbers(bytes);
  const bool adds = bytes.one_in(3);
  const DType x_type = bytes.one_of(pixel_types), residual_type = bytes.one_of(pixel_types);
  std::vector<Element> layers(1 + bytes.below(4));
  constexpr size_t most[] = {4, 4, 60, 60, 60};
  size_t channels = bytes.one_in(6) ? 8 * (32 + bytes.below(4)) : bytes.below(1 + bytes.one_of(most));
  const size_t in_channels = channels;
  DType type = x_type;
  ComparedChain compared;
  for (Element& e : layers) {
    if (!make(bytes, numbers, channels, type, adds && &e == &layers.back() ? &residual_type : nullptr, e)) return {};
    channels = e.filters();
    type = e.link.result;
    compared.quantized |= e.link.quantized;
    if (&e != &layers.back()) compared.handed[static_cast<size_t>(type)] = true;
  }
  const Place place(bytes, in_channels, channels);
  Placed x(bytes, x_type, place.x_shape, Placed::Lies::maybe_repeatedly);
  Placed residual(bytes, residual_type, place.y_shape, Placed::Lies::maybe_repeatedly);
  Placed y(bytes, type, place.y_shape, Placed::Lies::anyhow);
  x.fill([&] { return numbers.next(x_type); });
  residual.fill([&] { return numbers.next(residual_type); });
  x.seal();
  residual.seal();

  std::vector<char> expected[2];  // y's memory: rounded twice, once
  for (const bool fused : {false, true}) {
    y.forget();
    place.for_each_pixel([&](const Index& of_x, Index of_y) {
      std::vector<double> pixel = place.channels(x, of_x, in_channels, true), added;
      if (adds) added = place.channels(residual, of_y, channels, place.keep_axis);
      for (Element& e : layers) {
        pixel = e(pixel, fused, &e == &layers.back() ? added : std::vector<double>{});
        for (double& number : pixel) number = rounded(number, e.link.result);
      }
      for (size_t k = 0; k < channels; ++k) {
        if (place.keep_axis) of_y[place.axis] = static_cast<ptrdiff_t>(k);
        y.put(of_y, pixel[k]);
      }
    });
    expected[fused] = y.image();
  }

  const Array x_array = x.array(), y_array = y.array(), residual_array = residual.array();
  const Problem call = make_problem(DType::float32, x_array, y_array, adds ? &residual_array : nullptr,
                                    static_cast<int>(place.axis), place.keep_axis, place.steps, 1, channels);
  constexpr int numbers_of_threads[] = {1, 1, 3, 64};
  const int threads = bytes.one_of(numbers_of_threads);
  const bool new_thread = !bytes.one_in(4);  // whose scratch is no larger than it must be
  Machine machine{nullptr, {}, cpu().costs};
  machine.costs.worth_threads = 0;
  machine.costs.l2_bytes = size_t{1} << (bytes.one_in(4) ? 13 : 20);
  machine.costs.usual_chain_pixels = 1 + bytes.below(200);
  if (bytes.one_in(2)) machine.only.tile_pixels = 1 + bytes.below(100);
  std::mt19937 random(static_cast<unsigned>(bytes.below(65536)));

  for (const KernelTable* table : every_table()) {
    machine.table = table;
    for (int round = 0; round < 6; ++round) {  // first as the planner does of itself
      std::vector<Link> links;
      for (const Element& e : layers) {
        links.push_back(e.link);
        if (round == 0) continue;
        links.back().only = some_restriction(random, *table, e.link.arithmetic);
        if (random() % 2) links.back().handed_as = static_cast<Orientation>(random() % 2);
      }
      Program program = make_program(call, links, machine, threads);
      program.threads = std::min(program.threads, 3);  // who does which part does not matter
      const auto fail = [&](const char* what) {
        std::fprintf(stderr, "%s: isa %s (fused %d), round %d, %zu pixels in tiles of %zu, boxed %d\n", what,
                     isa_name(table->isa), table->fused, round, program.pixels, program.tile_pixels, call.boxed);
        for (const Step& step : program.steps) {
          const Plan& plan = step.plan;
          std::fprintf(stderr,
                       "  %zu groups of %zu -> %zu, %s in %s -> %s, quantized %d; method %d, %zu vectors of %zu, "
                       "orientation %d, staged %d, scratch %d, chunks of %zu; handed on by %td, %td\n",
                       step.problem.groups, step.problem.in_channels, step.problem.out_channels,
                       name(step.problem.x.dtype), name(step.problem.arithmetic), name(step.problem.y.dtype),
                       step.problem.quantized, static_cast<int>(plan.method), plan.vectors, plan.family->width,
                       static_cast<int>(plan.orientation), plan.stage_x, plan.scratch_y, plan.chunk_filters,
                       step.to.pixel, step.to.channel);
        }
        print_and_abort(data, count);
      };
      std::vector<Layer> operands;
      for (size_t l = 0; l < layers.size(); ++l) {
        const Plan& plan = program.steps[l].plan;
        operands.push_back(
            {&layers[l].weights->packed(plan.family->operand, plan.family->width), layers[l].definition.epilogue});
        if (l == 0 || program.tiles == 0) continue;
        compared.met[way_of(program.steps[l - 1].plan)][way_of(plan)] = true;
        const Step& before = program.steps[l - 1];
        compared.turned[before.plan.orientation == Orientation::pixels_as_lanes][before.to.pixel < before.to.channel] =
            true;
      }
      y.forget();
      bool finished = false;
      const auto run = [&] {
        finished = convolve(program, {x_array.data, y_array.data, adds ? residual_array.data : nullptr},
                            operands.data(), nullptr, nullptr);
      };
      new_thread ? std::thread(run).join() : run();
      if (!finished) fail("stopped unasked");
      ++compared.ways;
      compare(y, expected[table->fused], fail);
    }
  }
  compared.layers = layers.size();
  return compared;
}

}  // namespace conv1x1
