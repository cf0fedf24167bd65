#include "run/finish.h"

#include "run/multiply.h"

namespace conv1x1 {

namespace {

void add_residual(const Task& t, const Block& at, const Run& run) {
  const Side& side = t.problem.residual;
  const bool alone = t.problem.real_residual && t.problem.pairs_filters;  // for every second filter
  const auto add = [&](const char* residual, const Block& sums, size_t filters) {
    const KernelTable& table = *t.plan.table;
    accumulate(
        table,
        {residual + run.residual, run.residual_step, side.channel, sums.data, sums.pixel, sums.channel, run.n, filters},
        elements(side), static_cast<size_t>(t.size()), conversion(table, side.dtype, t.problem.arithmetic),
        table.add[index(t.problem.arithmetic)]);
  };
  if (!alone && !side.pair) return add(t.residual, at, t.filters);
  add(t.residual, {at.data, at.pixel, 2 * at.channel}, t.filters / 2);
  if (!alone) add(t.residual + side.pair, {at.data + at.channel, at.pixel, 2 * at.channel}, t.filters / 2);
}

void activate(const Task& t, const Block& at, size_t pixels) {
  const ActivateFn fn = t.plan.table->activate[index(t.problem.arithmetic)];
  const ptrdiff_t row = t.rows() ? at.pixel : at.channel;
  size_t rows = t.rows() ? pixels : t.filters, length = t.rows() ? t.filters : pixels;
  if (row == static_cast<ptrdiff_t>(length) * t.size()) {
    length *= rows;
    rows = 1;
  }
  for (size_t i = 0; i < rows; ++i)
    fn(at.data + static_cast<ptrdiff_t>(i) * row, length, t.epilogue.activation, t.epilogue.a, t.epilogue.b);
}

}  // namespace

void finish(const Task& t, const End& sums, bool moves) {
  const bool adds = t.residual && !t.plan.fuse_residual;
  const bool activates = t.epilogue.activation != Activation::none && !fuses_clamp(t) && !t.problem.quantized;
  const Side& side = t.problem.y;
  const bool turns = moves && t.y.walked && t.pixels.boxed && !side.pair;
  if (!adds && !activates && !moves) return;
  const KernelTable& table = *t.plan.table;
  const Elements from{static_cast<size_t>(t.out_size())}, to = elements(side);
  const ConvertFn convert = t.problem.quantized ? nullptr : conversion(table, t.problem.arithmetic, side.dtype);
  if (adds || activates || !turns) {
    const End block = sums.walked ? End{} : sums;  // sums in place need no walk of their own
    for_each_run(t, block, t.y, [&](const Block& at, const Block& y, const Run& run) {
      const Block& own = sums.walked ? y : at;
      if (adds) add_residual(t, own, run);
      if (activates) activate(t, own, run.n);
      if (!moves || turns) return;
      if (side.pair)
        transfer_pairs(table, {at.data, at.pixel, 2 * at.channel, y.data, y.pixel, y.channel, run.n, t.filters / 2},
                       at.channel, side.pair, from, to, convert);
      else
        transfer(table, {at.data, at.pixel, at.channel, y.data, y.pixel, y.channel, run.n, t.filters}, from, to,
                 convert);
    });
  }
  if (!turns) return;
  const PixelAxis &row = t.pixels.box[0], &column = t.pixels.box[1];
  transfer(table, sums.data, t.y.data,
           {{row.n, static_cast<ptrdiff_t>(column.n) * sums.pixel, row.y},
            {column.n, sums.pixel, column.y},
            {t.filters, sums.channel, t.y.channel}},
           from, to, convert);
}

void put_together(const Task& t, const Block& first, const Block& second) {
  const Side& side = t.problem.y;
  const KernelTable& table = *t.plan.table;
  for_each_run(t, End{first, false}, t.y, [&](const Block& at, const Block& y, const Run& run) {
    transfer_pairs(table, {at.data, at.pixel, at.channel, y.data, y.pixel, y.channel, run.n, t.filters},
                   second.data - first.data, side.half, {static_cast<size_t>(t.size())}, elements(side),
                   conversion(table, t.problem.arithmetic, side.dtype));
  });
}

}  // namespace conv1x1
