#include "plan/program.h"

#include <algorithm>
#include <array>
#include <limits>

#include "call/round.h"
#include "call/types.h"
#include "plan/candidates.h"
#include "plan/costs.h"
#include "plan/tiles.h"
#include "system/fp_environment.h"

namespace conv1x1 {

namespace {

constexpr size_t line = 64;  // bytes of a cache line

constexpr Orientation ways_round[] = {Orientation::pixels_as_rows, Orientation::pixels_as_lanes};

// A call's geometry, with what a layer has.
Problem with(Problem p, const Link& link) {
  p.arithmetic = link.arithmetic;
  p.quantized = link.quantized;
  p.narrow_weights = link.narrow_weights;
  p.pairs_filters = link.pairs_filters;
  p.centered = link.centered;
  p.groups = link.groups;
  p.in_channels = link.in_channels;
  p.out_channels = link.out_channels;
  return p;
}

// Of two steps at least, one of them a layer.
class Chain {
 public:
  Chain(const Problem& call, const std::vector<Link>& layers, const Machine& machine)
      : call_(call), layers_(layers), machine_(machine), turned_(layers.size()), handed_(layers.size()) {}

  Program program(int max_threads) {
    Program program;
    program.pixels = call_.pixels;
    if (call_.boxed) program.boxed = call_.all;
    const bool nothing = call_.pixels == 0 || layers_.back().out_channels == 0;
    if (!nothing) {
      turn_blocks();
      cut(program, max_threads);
    }
    program.own_scratch = place_blocks(program.tile_pixels);
    for (size_t l = 0; l < layers_.size(); ++l) {
      const Problem p = problem_of(l);
      const Plan plan = layers_[l].kind == StepKind::layer ? make_plan(p, machine_of(l, program.tile_pixels), 1)
                                                           : plan_over_channels(l, p, program.tile_pixels);
      program.steps.push_back({layers_[l].kind, p, plan, handed_[l]});
      program.scratch_bytes =
          std::max(program.scratch_bytes, program.own_scratch + program.steps.back().plan.scratch_bytes);
    }
    return program;
  }

 private:
  // Of the first layer's pixels, and of the last one's results, there is one way.
  size_t ways_before(size_t l) const { return l == 0 ? 1 : 2; }
  size_t ways_after(size_t l) const { return l + 1 == layers_.size() ? 1 : 2; }

  Machine machine_of(size_t l, size_t tile_pixels) const {
    Machine machine = machine_;
    machine.only = layers_[l].only;
    machine.only.tile_pixels = tile_pixels;
    return machine;
  }

  // What layer l hands on, but for its place. Rows of pixels follow one another without gaps, rows of lanes begin where
  // lines do; neither is a multiple of what would share cache sets.
  Handed block_of(size_t l, Orientation way, size_t tile_pixels) const {
    const size_t size = size_of(layers_[l].result), channels = layers_[l].groups * layers_[l].out_channels;
    const bool rows = way == Orientation::pixels_as_rows;
    size_t row = rows ? channels * size : round_up(tile_pixels * size, line);
    if (row % machine_.costs.set_bytes == 0) row += line;
    Handed block;
    block.bytes = round_up((rows ? tile_pixels : channels) * row, line);
    block.pixel = static_cast<ptrdiff_t>(rows ? row : size);
    block.channel = static_cast<ptrdiff_t>(rows ? size : row);
    return block;
  }

  // The axes of pixels in blocks, as if all of the call's lay there.
  PixelAxes evenly(ptrdiff_t x, ptrdiff_t y) const {
    if (call_.pixels <= 1) return {};
    return {{call_.pixels, x, y, 0}};
  }

  // An array's axes, with a block at the other end.
  static PixelAxes beside(PixelAxes axes, ptrdiff_t PixelAxis::*end, ptrdiff_t step) {
    for (size_t i = axes.size(); i-- > 0; step *= static_cast<ptrdiff_t>(axes[i].n)) axes[i].*end = step;
    return axes;
  }

  // Layer l between blocks, or, before the first and after the last, the call's arrays.
  Problem problem_of(size_t l, const Handed* from, const Handed* to) const {
    const Link& link = layers_[l];
    Problem p = with(call_, link);
    p.boxed = false;  // the program's boxes are chosen for the whole chain
    if (from) {
      p.x = Side{layers_[l - 1].result, false, from->channel};
      p.source = evenly(from->pixel, 0);
    }
    if (to) {
      p.y = Side{link.result, false, to->channel};
      p.target = evenly(0, to->pixel);
      p.residual = {};
      p.adds_residual = p.real_residual = false;
    }
    p.all = !to     ? beside(call_.target, &PixelAxis::x, from->pixel)
            : !from ? beside(call_.source, &PixelAxis::y, to->pixel)
                    : evenly(from->pixel, to->pixel);
    return p;
  }

  // Layer l between the blocks as they were turned.
  Problem problem_of(size_t l) const {
    return problem_of(l, l == 0 ? nullptr : &handed_[l - 1], l + 1 == layers_.size() ? nullptr : &handed_[l]);
  }

  // Which way round what is no layer works: as what it reads lies.
  static Orientation way_of(const Side& x) {
    return x.channel == static_cast<ptrdiff_t>(size_of(x.dtype)) ? Orientation::pixels_as_rows
                                                                 : Orientation::pixels_as_lanes;
  }

  // A step that is no layer: x is staged unless it is a block of the type of the sums, and so are results on their way
  // to anything else.
  Plan plan_over_channels(size_t l, const Problem& p, size_t tile_pixels) const {
    Plan plan;
    plan.table = machine_.table;
    plan.family = any_family(p, *machine_.table);
    if (p.pixels == 0 || p.out_channels == 0) {
      plan.tiles = plan.chunks = 0;
      return plan;
    }
    const bool ends = l + 1 == layers_.size(), index = layers_[l].kind == StepKind::arg_max;
    plan.orientation = l == 0 ? way_of(p.x) : turned_[l - 1];
    plan.stage_x = l == 0 || p.x.dtype != p.arithmetic;
    plan.scratch_y = index || ends || p.y.dtype != p.arithmetic || turned_[l] != plan.orientation;
    plan.tile_pixels = tile_pixels;
    plan.chunk_filters = p.out_channels;
    plan.channel_block = p.in_channels;
    choose_pitches(plan, p, machine_.costs);
    if (index)
      plan.scratch_bytes =
          plan.y_scratch + round_up(tile_pixels * size_of(DType::int32), line) + tile_pixels * size_of(p.y.dtype);
    return plan;
  }

  // What layer l, or whatever it is, costs where the blocks before and after it lie so.
  double cycles_of(size_t l, size_t before, size_t after, size_t tile_pixels) const {
    if (layers_[l].out_channels == 0) return 0;
    Handed from, to;
    if (ways_before(l) > 1) from = block_of(l - 1, ways_round[before], tile_pixels);
    if (ways_after(l) > 1) to = block_of(l, ways_round[after], tile_pixels);
    const Problem p = problem_of(l, ways_before(l) > 1 ? &from : nullptr, ways_after(l) > 1 ? &to : nullptr);
    if (layers_[l].kind != StepKind::layer) {
      const Orientation reads = ways_before(l) > 1 ? ways_round[before] : way_of(p.x),
                        writes = ways_after(l) > 1 ? ways_round[after] : way_of(p.y);
      const bool turns = reads != writes && layers_[l].kind != StepKind::arg_max;
      return turns ? machine_.costs.turned_move[2] * static_cast<double>(p.pixels * p.in_channels) : 0;
    }
    return choose_candidate(p, machine_of(l, 0)).cycles;
  }

  // Which way round every block lies: whatever costs least all in all, on both its sides.
  void turn_blocks() {
    const size_t tile = std::min(call_.pixels, machine_.costs.usual_chain_pixels);
    struct Best {
      double cycles = std::numeric_limits<double>::infinity();  // of all up to this layer
      size_t before = 0;
    };
    std::vector<std::array<Best, 2>> best(layers_.size());
    for (size_t l = 0; l < layers_.size(); ++l) {
      for (size_t after = 0; after < ways_after(l); ++after) {
        if (ways_after(l) > 1 && layers_[l].handed_as.value_or(ways_round[after]) != ways_round[after]) continue;
        for (size_t before = 0; before < ways_before(l); ++before) {
          const double cycles = (l == 0 ? 0 : best[l - 1][before].cycles) + cycles_of(l, before, after, tile);
          if (cycles < best[l][after].cycles) best[l][after] = {cycles, before};
        }
      }
    }
    for (size_t l = layers_.size(), way = 0; l-- > 1;) {
      way = best[l][way].before;
      turned_[l - 1] = ways_round[way];
    }
  }

  // The tile is the smallest that any layer wants, and small enough that all blocks together take what a tile may.
  void cut(Program& program, int max_threads) {
    const Costs& costs = machine_.costs;
    const size_t usual = std::min(call_.pixels, costs.usual_chain_pixels);
    const size_t handed_bytes = place_blocks(usual);
    Plan whole;  // of the call's pixels, in the largest granules
    size_t tile = call_.pixels, multiply_adds = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
      if (layers_[l].out_channels == 0) continue;
      const Problem p = problem_of(l);
      if (layers_[l].kind != StepKind::layer) {
        program.microseconds +=
            static_cast<double>(p.pixels * p.in_channels) * costs.over_channels_flop / costs.flop_in_microsecond;
        continue;
      }
      const Plan plan = make_plan(p, machine_of(l, 0), 1);
      if (!whole.family || granule_of(plan) > granule_of(whole)) static_cast<Candidate&>(whole) = plan;
      tile = std::min(tile, plan.tile_pixels);
      multiply_adds += p.groups * p.out_channels * p.in_channels;
      program.microseconds += plan.microseconds;
    }
    whole.table = machine_.table;
    whole.stage_x = whole.scratch_y = false;
    const size_t granule = granule_of(whole);
    const size_t held = scratch_budget(costs) / std::max<size_t>(ceil_div(handed_bytes, usual), 1);
    tile = std::min(tile, std::max<size_t>(held / granule, 1) * granule);
    const size_t longest = machine_.table->isa == Isa::portable ? costs.longest_portable_unit : costs.longest_unit;
    tile = std::min(tile, std::max<size_t>(longest / std::max<size_t>(multiply_adds, 1), 1));
    program.threads = worth_threads(costs, program.microseconds, max_threads);
    const size_t wanted = static_cast<size_t>(program.threads) * costs.units_for_thread;
    if (program.threads > 1) tile = std::min(tile, round_up(ceil_div(call_.pixels, wanted), granule));
    choose_pixels(whole, call_, costs, tile);
    if (machine_.only.tile_pixels) force_pixels(whole, call_, costs, machine_.only.tile_pixels);
    program.tile_pixels = whole.tile_pixels;
    program.tiles = whole.tiles;
    std::copy(whole.box, whole.box + 2, program.box);
  }

  // Two places, taken in turn: a layer reads one and writes the other. Returns what both take.
  size_t place_blocks(size_t tile_pixels) {
    size_t places[2] = {};
    for (size_t l = 0; l + 1 < layers_.size(); ++l) {
      handed_[l] = block_of(l, turned_[l], tile_pixels);
      places[l % 2] = std::max(places[l % 2], handed_[l].bytes);
    }
    for (size_t l = 1; l + 1 < layers_.size(); l += 2) handed_[l].offset = places[0];
    return places[0] + places[1];
  }

  const Problem& call_;
  const std::vector<Link>& layers_;
  const Machine& machine_;
  std::vector<Orientation> turned_;  // of what each hands on
  std::vector<Handed> handed_;
};

// A call of its own, so that none of its arithmetic comes before or after the modes are set.
[[gnu::noinline]] Program program_of_chain(const Problem& call, const std::vector<Link>& layers, const Machine& machine,
                                           int max_threads) {
  return Chain(call, layers, machine).program(max_threads);
}

}  // namespace

Program make_program(const Problem& p, const Plan& plan) {
  Program program;
  program.steps.push_back({StepKind::layer, p, plan, {}});
  program.pixels = p.pixels;
  if (p.boxed) program.boxed = p.all;
  program.tile_pixels = plan.tile_pixels;
  std::copy(plan.box, plan.box + 2, program.box);
  program.tiles = plan.tiles;
  program.units = p.groups * plan.chunks;
  program.scratch_bytes = plan.scratch_bytes;
  program.microseconds = plan.microseconds;
  program.threads = plan.threads;
  return program;
}

Program make_program(const Problem& p, const Machine& machine, int max_threads) {
  return make_program(p, make_plan(p, machine, max_threads));
}

Program make_program(const Problem& call, const std::vector<Link>& layers, const Machine& machine, int max_threads) {
  if (layers.size() == 1) {
    Machine restricted = machine;
    restricted.only = layers.front().only;
    restricted.only.tile_pixels = machine.only.tile_pixels;
    return make_program(with(call, layers.front()), restricted, max_threads);
  }
  const DefaultArithmetic arithmetic_mode;
  return program_of_chain(call, layers, machine, max_threads);
}

}  // namespace conv1x1
