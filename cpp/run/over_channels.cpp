#include "run/over_channels.h"

#include "call/round.h"
#include "run/finish.h"
#include "run/stage.h"
#include "run/task.h"
#include "run/transfer.h"

namespace conv1x1 {

namespace {

// to[i] = labels[index[i]]
template <class Element>
void look_up(const char* labels, const int32_t* index, char* to, size_t n) {
  const Element* const from = reinterpret_cast<const Element*>(labels);
  Element* const found = reinterpret_cast<Element*>(to);
  for (size_t i = 0; i < n; ++i) found[i] = from[index[i]];
}

// From the indices of the largest, which follow one another, to y.
void finish_index(const Task& t, const char* labels, char* indices, char* scratch) {
  const size_t n = t.pixels.count(), size = size_of(t.problem.y.dtype);
  const int32_t* const index = reinterpret_cast<const int32_t*>(indices);
  char* numbers = scratch;
  if (labels) {
    constexpr decltype(&look_up<char>) look[] = {look_up<uint8_t>, look_up<uint16_t>, look_up<uint32_t>,
                                                 look_up<uint64_t>};
    look[log2_of(size)](labels, index, numbers, n);
  } else if (const ConvertFn convert = conversion(*t.plan.table, DType::int32, t.problem.y.dtype)) {
    convert(indices, numbers, n);
  } else {
    numbers = indices;
  }
  const ptrdiff_t step = static_cast<ptrdiff_t>(size);
  for_each_run(t, End{{numbers, step, step}, false}, t.y, [&](const Block& at, const Block& y, const Run& run) {
    transfer(*t.plan.table, {at.data, at.pixel, at.channel, y.data, y.pixel, y.channel, run.n, 1}, {size},
             elements(t.problem.y), nullptr);
  });
}

}  // namespace

void step_over_channels(const Task& t, StepKind kind, const OverChannelsNumbers& numbers, const End& x, const End& y,
                        char* scratch) {
  const KernelTable& table = *t.plan.table;
  const size_t sums = index(t.problem.arithmetic), channels = t.problem.in_channels;
  if (t.plan.stage_x) stage(t, 0, channels, x);
  OverChannels a{x.data,           x.pixel,  x.channel,      y.data,       y.pixel,    y.channel,
                 t.pixels.count(), channels, numbers.weight, numbers.bias, numbers.eps};
  if (kind == StepKind::arg_max) {
    a.y = scratch + t.plan.y_scratch;
    a.y_channel = x.channel;
    table.arg_max[sums](a);
    return finish_index(t, numbers.labels, a.y, a.y + round_up(a.pixels * size_of(DType::int32), 64));
  }
  (kind == StepKind::softmax ? table.softmax : table.layer_norm)[sums](a);
  finish(t, y, t.plan.scratch_y);
}

}  // namespace conv1x1
