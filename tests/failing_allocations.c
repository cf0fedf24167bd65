// Preloaded before the C library's own: allocations that fail when they are told to, and a count of those that live.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

atomic_long allocations_until_failure;  // 1: the next one fails; 0: none does
atomic_long allocations_fail_on;        // not 0: so do all that follow
atomic_ulong allocations_spared;        // the thread whose allocations neither fail nor count
atomic_long living_allocations;

static int fails(void) {
  if ((unsigned long)pthread_self() == allocations_spared) return 0;
  long left = atomic_load(&allocations_until_failure);
  while (left > !!allocations_fail_on &&
         !atomic_compare_exchange_weak(&allocations_until_failure, &left, left - 1)) {
  }
  if (left == 1) errno = ENOMEM;
  return left == 1;
}

static void* counted(void* p) {
  if (p) atomic_fetch_add(&living_allocations, 1);
  return p;
}

void* malloc(size_t n) { return fails() ? NULL : counted(__libc_malloc(n)); }
void* calloc(size_t n, size_t size) { return fails() ? NULL : counted(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t n) { return fails() ? NULL : counted(__libc_memalign(alignment, n)); }
void* aligned_alloc(size_t alignment, size_t n) { return memalign(alignment, n); }

int posix_memalign(void** p, size_t alignment, size_t n) {
  void* made = memalign(alignment, n);
  if (made) *p = made;
  return made ? 0 : ENOMEM;
}

void free(void* p) {
  if (p) atomic_fetch_sub(&living_allocations, 1);
  __libc_free(p);
}

void* realloc(void* p, size_t n) {
  if (fails()) return NULL;
  void* made = __libc_realloc(p, n);
  if (!p) return counted(made);
  if (!made && n == 0) atomic_fetch_sub(&living_allocations, 1);
  return made;
}
