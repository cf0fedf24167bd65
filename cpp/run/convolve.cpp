#include "run/convolve.h"

#include <algorithm>
#include <new>

#include "run/few_channels.h"
#include "run/few_filters.h"
#include "run/finish.h"
#include "run/multiply.h"
#include "run/scratch.h"
#include "run/stage.h"
#include "run/task.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

// A tile in scratch, whose rows are `pitch` numbers of `size` bytes apart.
End tile_at(const Task& t, char* data, size_t pitch, ptrdiff_t size) {
  const ptrdiff_t bytes = static_cast<ptrdiff_t>(pitch) * size;
  return {t.rows() ? Block{data, bytes, size} : Block{data, size, bytes}, false};
}

// What the kernel reads: the tile that was staged, or the pixels where they lie.
End kernel_x(const Task& t, char* scratch) {
  if (t.plan.stage_x) return tile_at(t, scratch, t.plan.x_pitch, t.size());
  End x = t.x;
  x.channel *= static_cast<ptrdiff_t>(t.depth());
  return x;
}

// What the kernel writes: a tile after that of x, or the results where they shall lie.
End kernel_y(const Task& t, char* scratch) {
  return t.plan.scratch_y ? tile_at(t, scratch + t.plan.y_scratch, t.plan.y_pitch, t.out_size()) : t.y;
}

void run_half(const Task& t, const End& x, const End& y) {
  const size_t in_channels = t.problem.in_channels;
  if (t.plan.method != Method::multiply) {
    if (t.plan.stage_x) stage(t, 0, in_channels, x);
    t.plan.method == Method::few_filters_lanes ? filter_lanes(t, x, y) : filter_rows(t, x, y);
  } else {
    size_t channel = 0;
    do {  // once for no channels at all: the sum is 0
      const size_t channels = std::min(t.plan.channel_block, in_channels - channel);
      End block = x;
      if (t.plan.stage_x)
        stage(t, channel, channels, x);
      else
        block.data += static_cast<ptrdiff_t>(channel) * t.x.channel;
      multiply(t, channel, channels, block, y);
      channel += channels;
    } while (channel < in_channels);
  }
  finish(t, y, t.plan.scratch_y && t.problem.halves == 1);
}

void run_halves(const Task& t, const End& x, const End& y) {
  const Problem& p = t.problem;
  run_half(t, x, y);
  Task second = t;
  second.second_half = true;
  second.x.data += p.x.half;
  second.y.data += p.y.half;
  second.residual = !t.residual || p.real_residual ? nullptr : t.residual + p.residual.half;
  End second_x = x, second_y = y;
  if (x.walked) second_x.data += p.x.half;
  second_y.data += y.walked ? p.y.half : static_cast<ptrdiff_t>(t.plan.y_half);
  run_half(second, second_x, second_y);
  if (!y.walked) put_together(t, y, second_y);
}

struct Work {
  const Program& program;
  const Data& data;
  const Layer* layers;
  bool (*stop)(void*);
  void* stop_context;
};

const PackedWeights no_weights{};

// Where a channel begins in what one step hands to the next.
End handed(const Handed& block, size_t channel, char* scratch) {
  return {{scratch + block.offset + static_cast<ptrdiff_t>(channel) * block.channel, block.pixel, block.channel},
          false};
}

// Of a step, a chunk of the filters of one group: part of groups · chunks.
void run_part(const Work& work, size_t s, const Pixels& pixels, size_t part, char* scratch) {
  const Step* const step = &work.program.steps[s];
  const Problem& p = step->problem;
  const Plan& plan = step->plan;
  const Data& data = work.data;
  const size_t group = part / plan.chunks, filter = part % plan.chunks * plan.chunk_filters;
  const size_t filters = std::min(plan.chunk_filters, p.out_channels - filter);
  const size_t first_channel = group * p.in_channels, first_filter = group * p.out_channels + filter;
  const bool ends = s + 1 == work.program.steps.size();
  const bool alone = p.real_residual && p.pairs_filters;  // the residual is for every second filter
  const Layer& layer = work.layers[s];
  const End from =
      s > 0 ? handed(step[-1].to, first_channel, scratch)
            : End{{const_cast<char*>(data.x) + pixels.start.x + offset(p.x, first_channel), 0, p.x.channel}, true};
  const End to = !ends ? handed(step->to, first_filter, scratch)
                       : End{{data.y + pixels.start.y + offset(p.y, first_filter), 0, p.y.channel}, true};
  const char* const residual = ends && data.residual ? data.residual + pixels.start.residual +
                                                           offset(p.residual, alone ? first_filter / 2 : first_filter)
                                                     : nullptr;
  Limit* const limit = s == 0 && filter == 0 ? data.limit : nullptr;
  const Task task{p,
                  plan,
                  layer.weights ? *layer.weights : no_weights,
                  layer.epilogue,
                  pixels,
                  group,
                  filter,
                  filters,
                  from,
                  to,
                  residual,
                  false,
                  limit};
  char* const own = scratch + work.program.own_scratch;
  if (plan.method == Method::few_channels) return few_channels(task, own);
  const End x = kernel_x(task, own), y = kernel_y(task, own);
  if (step->kind != StepKind::layer) return step_over_channels(task, step->kind, work.layers[s].numbers, x, y, own);
  p.halves == 1 ? run_half(task, x, y) : run_halves(task, x, y);
}

void run_unit(void* context, size_t unit) noexcept {
  const DefaultArithmetic arithmetic;
  const Work& work = *static_cast<const Work*>(context);
  const Program& program = work.program;
  char* const scratch = thread_scratch(program.scratch_bytes);
  const Pixels pixels = pixels_of(program, unit / program.units);
  if (program.steps.size() == 1) return run_part(work, 0, pixels, unit % program.units, scratch);
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const size_t parts = program.steps[s].problem.groups * program.steps[s].plan.chunks;
    for (size_t part = 0; part < parts; ++part) run_part(work, s, pixels, part, scratch);
  }
}

bool enter(void* context) noexcept {
  return thread_scratch(static_cast<const Work*>(context)->program.scratch_bytes) != nullptr;
}

bool stop(void* context) {
  const Work& work = *static_cast<const Work*>(context);
  const Limit* limit = work.data.limit;
  return (limit && limit->passed) || (work.stop && work.stop(work.stop_context));
}

}  // namespace

bool convolve(const Program& program, const Data& data, const Layer* layers, bool (*stop_asked)(void*),
              void* stop_context) {
  if (program.tiles == 0) return true;
  Work work{program, data, layers, stop_asked, stop_context};
  if (!enter(&work)) throw std::bad_alloc();
  return run_job({program.tiles * program.units, enter, run_unit, stop, &work}, program.threads);
}

}  // namespace conv1x1
