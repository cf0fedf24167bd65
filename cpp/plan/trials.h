// Which of a few plans is the fastest, found out on real calls: candidates in, times in, choice out.
//
// No choice of the planner changes a bit of a result, so calls of one shape may take turns with the best few plans that
// the cost model knows, until one has shown to be the fastest. Candidates take turns, one call each, so that a machine
// whose speed drifts is unfair to none; each counts by its shortest time, since whatever disturbs a call makes it
// longer. Those far behind drop out early. A time that never comes, of a call that was interrupted or of a thread that
// a fork has left behind, holds nothing up.
//
// No clock and no locks here: the caller measures, and sees to it that one thread at a time is inside.
#pragma once

#include <cstddef>

namespace conv1x1 {

class Trials {
 public:
  static constexpr size_t most_candidates = 8;

  // Candidate 0 is the cost model's own choice: it runs first, and stays where another is not clearly faster.
  explicit Trials(size_t candidates);

  // The candidate whose turn it is; once it is settled, the choice.
  size_t next() const;
  bool settled() const { return settled_; }

  // What a call of a candidate took. Times of more than one thread at once may come in any order.
  void took(size_t candidate, double microseconds);

  size_t candidates() const { return candidates_; }
  size_t times(size_t candidate) const { return tried_[candidate].times; }
  double shortest(size_t candidate) const { return tried_[candidate].shortest; }  // infinite where there is none

 private:
  void settle();

  struct Tried {
    size_t times = 0;
    double shortest = 0;
    bool out = false;
  };
  size_t candidates_;
  Tried tried_[most_candidates];
  size_t choice_ = 0;
  bool settled_ = false;
};

}  // namespace conv1x1
