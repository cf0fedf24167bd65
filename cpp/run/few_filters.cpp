#include "run/few_filters.h"

namespace conv1x1 {

void filter_rows(const Task& t, const End& from, const End& to) {
  FilterRows f = plain_filters<FilterRows>(t);
  const FilterRowsFn kernel = t.plan.table->few_filters[index(t.problem.arithmetic)];
  for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
    f.x = x.data;
    f.pixel_stride = x.pixel;
    f.pixels = run.n;
    f.out = y.data;
    f.out_pixel = y.pixel;
    kernel(f);
  });
}

void filter_lanes(const Task& t, const End& from, const End& to) {
  FilterLanes f = plain_filters<FilterLanes>(t);
  const FilterLanesFn kernel = t.plan.table->few_filters_lanes[index(t.problem.arithmetic)];
  for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
    f.x = x.data;
    f.x_channel = x.channel;
    f.pixels = run.n;
    f.out = y.data;
    f.out_row = y.channel;
    kernel(f);
  });
}

}  // namespace conv1x1
