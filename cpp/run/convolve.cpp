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

ptrdiff_t whole_lines(size_t bytes) { return static_cast<ptrdiff_t>((bytes + 63) / 64 * 64); }

// What the kernel reads: the tile that was staged, or the pixels where they lie.
End kernel_x(const Task& t, char* scratch) {
  if (t.plan.stage_x) return tile_at(t, scratch, t.plan.x_pitch, t.size());
  End x = t.x;
  x.channel *= static_cast<ptrdiff_t>(t.depth());
  return x;
}

// What the kernel writes: a tile after that of x, or the results where they shall lie.
End kernel_y(const Task& t, char* scratch) {
  const Plan& plan = t.plan;
  if (!plan.scratch_y) return t.y;
  const size_t steps = (plan.channel_block + t.depth() - 1) / t.depth();
  const size_t x_numbers = plan.stage_x ? plan.x_pitch * (t.rows() ? plan.tile_pixels : steps) : 0;
  return tile_at(t, scratch + whole_lines(x_numbers * static_cast<size_t>(t.size())), plan.y_pitch, t.out_size());
}

// From the first half of a tile's results to the second.
ptrdiff_t half_bytes(const Task& t) {
  const Plan& plan = t.plan;
  return whole_lines(plan.y_pitch * (t.rows() ? plan.tile_pixels : plan.chunk_filters) * static_cast<size_t>(t.size()));
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
        block.data += offset(t.problem.x, channel);
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
  second_y.data += y.walked ? p.y.half : half_bytes(t);
  run_half(second, second_x, second_y);
  if (!y.walked) put_together(t, y, second_y);
}

void run_part(const Layer& layer, const Pixels& pixels, size_t part, char* scratch) {
  const Problem& p = *layer.problem;
  const Plan& plan = *layer.plan;
  const size_t group = part / plan.chunks, filter = part % plan.chunks * plan.chunk_filters;
  const size_t filters = std::min(plan.chunk_filters, p.out_channels - filter);
  const size_t first_channel = group * p.in_channels, first_filter = group * p.out_channels + filter;
  const bool alone = p.real_residual && p.pairs_filters;  // the residual is for every second filter
  const Data& data = layer.data;
  const Task task{p,
                  plan,
                  *layer.weights,
                  layer.epilogue,
                  pixels,
                  group,
                  filter,
                  filters,
                  {{const_cast<char*>(data.x) + pixels.start.x + offset(p.x, first_channel), 0, p.x.channel}, true},
                  {{data.y + pixels.start.y + offset(p.y, first_filter), 0, p.y.channel}, true},
                  !data.residual ? nullptr
                                 : data.residual + pixels.start.residual +
                                       offset(p.residual, alone ? first_filter / 2 : first_filter),
                  false};
  if (plan.method == Method::few_channels) return few_channels(task, scratch);
  const End x = kernel_x(task, scratch), y = kernel_y(task, scratch);
  p.halves == 1 ? run_half(task, x, y) : run_halves(task, x, y);
}

struct Work {
  const Layer* layer;
  size_t parts;  // units in a tile
  bool (*stop)(void*);
  void* stop_context;
};

void run_unit(void* context, size_t unit) noexcept {
  const DefaultArithmetic arithmetic;
  const Work& work = *static_cast<const Work*>(context);
  const Layer& layer = *work.layer;
  const Pixels pixels = pixels_of(*layer.problem, *layer.plan, unit / work.parts);
  run_part(layer, pixels, unit % work.parts, thread_scratch(layer.plan->scratch_bytes));
}

bool enter(void* context) noexcept {
  return thread_scratch(static_cast<const Work*>(context)->layer->plan->scratch_bytes) != nullptr;
}

bool stop(void* context) {
  const Work& work = *static_cast<const Work*>(context);
  return work.stop && work.stop(work.stop_context);
}

}  // namespace

bool convolve(const Layer& layer, bool (*stop_asked)(void*), void* stop_context) {
  const Problem& p = *layer.problem;
  const Plan& plan = *layer.plan;
  if (p.pixels == 0 || p.out_channels == 0) return true;
  Work work{&layer, p.groups * plan.chunks, stop_asked, stop_context};
  if (!enter(&work)) throw std::bad_alloc();
  return run_job({plan.tiles * work.parts, enter, run_unit, stop, &work}, plan.threads);
}

}  // namespace conv1x1
